"""What `gpu.py` measures, section by section. Not yet run on a GPU.

Every section prints a JSON line as soon as it knows something, so that one that is stopped has told all the rest.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from gpu_contenders import (
    FAULTS,
    Contender,
    Rig,
    bound,
    diffusers_contenders,
    doubled,
    fill,
    graphed,
    hayate_contenders,
    in_type,
    random_given,
    random_unet,
    reference,
    say,
    unet_of,
)
from torch import Tensor

from hayate.models.clip import text_encoder
from hayate.models.layers import skeleton
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.runtime.memory import OFFLOADS, Work, forecast, free_bytes, resolve_offload
from hayate.runtime.offload import Offloader
from hayate.runtime.precision import Precision

GUIDANCE = 7.5
ROUNDS = 7
BURST_S = 0.12
CARD_BYTES = 8 << 30


def steps(rig: Rig, name: str, images: int = 1, *, is_quick: bool = False) -> None:
    """One picture, or a batch: eager, compiled, by graphs, the repository's artefact, and diffusers, taking turns.

    `is_quick` leaves out what takes minutes to be compiled.
    """
    config, side = rig.model(name)
    base = random_unet(rig, config, torch.float32)
    given = random_given(rig, base, images, side)
    exact = reference(base, given)
    plain = {key: each.to(rig.dtype) for key, each in base.state_dict().items()}
    del base
    given = in_type(given, rig.dtype)
    contenders = hayate_contenders(rig, plain, config, given, is_quick=is_quick)
    contenders += diffusers_contenders(rig, config, given, is_quick=is_quick)
    race(rig, contenders, given.first, {"section": "steps", "model": name, "images": images}, exact)


def batches(rig: Rig, name: str) -> None:
    """More and more pictures at once, eager and by graphs; then the best number with everything that is compiled."""
    config, side = rig.model(name)
    plain = random_unet(rig, config, rig.dtype).state_dict()
    best, best_rate = 1, 0.0
    for images in (1,) if rig.is_dry else (1, 2, 4, 8, 16):
        given = in_type(random_given(rig, unet_of(config, plain), images, side), rig.dtype)
        contenders = hayate_contenders(rig, plain, config, given, is_quick=True)
        medians = race(rig, contenders, given.first, {"section": "batches", "model": name, "images": images})
        rate = images / min(medians.values()) if medians else 0.0
        if rate < 1.03 * best_rate:
            break
        best, best_rate = images, rate
    say("best batch", model=name, images=best, images_per_s_and_step=best_rate)
    del plain
    steps(rig, name, best, is_quick=rig.is_dry)


def attention(rig: Rig, name: str) -> None:
    """A whole step with each attention backend, by graphs, so that the GPU is measured and not Python."""
    from hayate.runtime.attention.catalogue import BACKENDS
    from hayate.runtime.attention.choose import choose_attention
    from hayate.runtime.device import resolve_device

    config, side = rig.model(name)
    base = random_unet(rig, config, torch.float32)
    given = random_given(rig, base, 1, side)
    exact = reference(base, given)
    plain = {key: each.to(rig.dtype) for key, each in base.state_dict().items()}
    given, contenders = in_type(given, rig.dtype), []
    head_dims = {each.attn1.to_q.out_features // each.attn1.heads for each in base.transformer_blocks()}
    del base
    for backend in [each for each in BACKENDS if each != "native"]:  # a CPU's
        try:
            chosen = choose_attention(backend, resolve_device(str(rig.device)), rig.dtype, head_dims)
        except FAULTS as error:
            say("refused", section="attention", model=name, contender=backend, reason=str(error))
            continue
        step = graphed(rig, unet_of(config, plain, chosen.attention).step)
        contenders.append(bound(backend, step, given))
    race(rig, contenders, given.first, {"section": "attention", "model": name, "images": 1}, exact)


def small_card(rig: Rig, name: str = "sdxl") -> None:
    """A whole picture on a card of 8 GB: every offload, which of them the plan chooses, the forecast and the peak."""
    config, side = rig.model(name)
    with skeleton():
        modules = [UNet(config.unet), AutoencoderKL(config.vae), *(text_encoder(each) for each in config.text)]
    for module in modules:
        fill(module, rig.device, rig.dtype).to("cpu")
    unet, vae, *text = modules
    if rig.device.type == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(rig.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, CARD_BYTES / total), rig.device)
    precision = Precision(unet=rig.dtype, text=rig.dtype, vae=rig.dtype, reason="measured")
    predicted = forecast(config, precision, Work(inputs=2, images=1, height_px=8 * side, width_px=8 * side))
    plan = resolve_offload(None, predicted, free_bytes(rig.device), rig.device)
    say("plan", model=name, offload=plan.offload, reason=plan.reason, is_enough=plan.is_enough)
    pictures = {}
    for offload in reversed(OFFLOADS):
        row = {"section": "card", "model": name, "offload": offload, "forecast_bytes": predicted.peak_bytes(offload)}
        try:
            offloader = None
            if offload != "none":
                offloader = Offloader(unet, text, vae, rig.device, is_streamed=offload == "lowvram")
            else:
                for module in modules:
                    module.to(rig.device)
            pictures[offload], row["seconds"] = _picture(rig, modules, offloader, side)
            row["evidence"] = offloader.evidence().detail if offloader else ""
            if offloader:
                offloader.send_home()
        except FAULTS as error:
            row["failed"] = f"{type(error).__name__}: {error}"[:300]
        if rig.device.type == "cuda":
            row["peak_bytes"] = torch.cuda.max_memory_allocated(rig.device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(rig.device)
        say("card", **row)
    same = [torch.equal(each, next(iter(pictures.values()))) for each in pictures.values()]
    say("card equality", offloads=list(pictures), are_bit_equal=all(same))


def prepare_compiled(rig: Rig, name: str, whose: str) -> None:
    """Fills the compilers' caches, beside the other models and contenders; nothing of it is timed."""
    config, side = rig.model(name)
    plain = random_unet(rig, config, rig.dtype).state_dict()
    given = in_type(random_given(rig, unet_of(config, plain), 1, side), rig.dtype)
    if whose == "diffusers":
        contenders = diffusers_contenders(rig, config, given)
    else:
        contenders = hayate_contenders(rig, plain, config, given, whose=whose)
    for each in contenders:
        started = time.perf_counter()
        try:
            each.call(doubled(given.first))
            rig.wait()
        except FAULTS as error:
            say("failed", section="prepare", model=name, contender=each.name, reason=str(error)[:300])
        else:
            say("prepared", model=name, contender=each.name, seconds=time.perf_counter() - started)


def race(
    rig: Rig, contenders: Sequence[Contender], first: Tensor, row: dict, exact: Tensor | None = None
) -> dict[str, float]:
    """Steps with guidance by turns, A B A B; the median seconds of each contender's step.

    A step is the network for prompt and negative prompt, their combination, and Euler's rule; it waits for nothing.
    """
    runs: dict[str, tuple[Callable[[int], float], int]] = {}
    for each in contenders:
        try:
            for _ in range(3):  # graphs are recorded at the third call
                each.call(doubled(first))
            output = each.call(doubled(first))
            rig.wait()
            run = _burst(rig, each.call, first)
            count = 1 if rig.is_dry else max(1, round(BURST_S / run(2)))
        except FAULTS as error:
            say("failed", **row, contender=each.name, reason=f"{type(error).__name__}: {error}"[:300])
            continue
        if each.proof and not each.proof().active:
            say("refused", **row, contender=each.name, reason=each.proof().detail)
            continue
        runs[each.name] = (run, count)
        if exact is not None and not each.name.startswith("diffusers"):
            relative = float((output.float() - exact).norm() / exact.norm())
            say("error against fp32", **row, contender=each.name, relative=relative)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(2 if rig.is_dry else ROUNDS):
        for name, (run, count) in runs.items():
            seconds[name].append(run(count))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        spread = {"it_per_s": 1 / medians[name], "low": 1 / max(values), "high": 1 / min(values)}
        say("rate", **row, contender=name, **spread, dtype=str(rig.dtype).removeprefix("torch."))
    return medians


def _burst(rig: Rig, call: Callable[[Tensor], Tensor], first: Tensor) -> Callable[[int], float]:
    def run(count: int) -> float:
        """Seconds of one step, of `count` in a row."""
        latents = first
        rig.wait()
        started = time.perf_counter()
        for _ in range(count):
            output, negative = call(doubled(latents)).chunk(2)
            latents = 0.99 * latents - 0.01 * (negative + GUIDANCE * (output - negative))
        rig.wait()
        return (time.perf_counter() - started) / count

    return run


def _picture(rig: Rig, modules: Sequence[Any], offloader: Offloader | None, side: int) -> tuple[Tensor, dict]:
    """A picture from token ids to pixels in few steps, and the seconds of its phases."""
    unet, vae, *text = modules
    bring = offloader.bring if offloader else lambda stage: None
    generator = torch.Generator(rig.device).manual_seed(5)
    clock, seconds, rows = [time.perf_counter()], {}, 3 if rig.is_dry else 12

    def mark(phase: str) -> None:
        rig.wait()
        clock.append(time.perf_counter())
        seconds[phase] = clock[-1] - clock[-2]

    bring("text")
    ids = torch.full((2, 77), 49407, device=rig.device)
    for encoder in text:
        encoder(ids)
    mark("encode")
    bring("projections")
    context = torch.randn((2, 77, unet.config.context_width), device=rig.device, generator=generator).to(rig.dtype)
    width = unet.config.vector_width
    vector = torch.randn((2, width), device=rig.device, generator=generator) if width else None
    times = unet.project_times(torch.full((2,), 500.0, device=rig.device), vector, rig.dtype)
    contexts = unet.project_context(context)
    mark("project")
    latents = torch.randn((1, 4, side, side), device=rig.device, generator=generator)
    for _ in range(rows):
        bring("unet")
        output, negative = unet.step(doubled(latents).to(rig.dtype), times, contexts).float().chunk(2)
        latents = 0.99 * latents - 0.01 * (negative + GUIDANCE * (output - negative))
    mark("sample")
    bring("vae")
    picture = vae.decode(latents.to(rig.dtype)).float().cpu()
    mark("decode")
    return picture, seconds | {"steps": rows}


SECTIONS: dict[str, Callable[[Rig], None]] = {
    "prepare-sd15-hayate": lambda rig: prepare_compiled(rig, "sd15", "hayate"),
    "prepare-sd15-artefact": lambda rig: prepare_compiled(rig, "sd15", "artefact"),
    "prepare-sd15-diffusers": lambda rig: prepare_compiled(rig, "sd15", "diffusers"),
    "prepare-sdxl-hayate": lambda rig: prepare_compiled(rig, "sdxl", "hayate"),
    "prepare-sdxl-artefact": lambda rig: prepare_compiled(rig, "sdxl", "artefact"),
    "prepare-sdxl-diffusers": lambda rig: prepare_compiled(rig, "sdxl", "diffusers"),
    "steps-sd15": lambda rig: steps(rig, "sd15"),
    "steps-sdxl": lambda rig: steps(rig, "sdxl"),
    "card": small_card,
    "attention-sd15": lambda rig: attention(rig, "sd15"),
    "attention-sdxl": lambda rig: attention(rig, "sdxl"),
    "batches-sd15": lambda rig: batches(rig, "sd15"),
    "batches-sdxl": lambda rig: batches(rig, "sdxl"),
}


def run_sections(names: Sequence[str], *, is_dry: bool, cache: Path | None) -> None:
    """Runs sections in this process, one after the other."""
    device = torch.device("cpu" if is_dry else "cuda")
    dtype = torch.bfloat16 if is_dry else torch.float16
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        rig = Rig(device=device, is_dry=is_dry, dtype=dtype, cache=cache or Path(folder))
        for name in names:
            started = time.perf_counter()
            SECTIONS[name](rig)
            torch.compiler.reset()
            say("done", section=name, seconds=time.perf_counter() - started)
