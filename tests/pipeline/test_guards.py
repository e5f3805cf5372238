"""Planted faults: values that are not finite, overflows in fp16, memory that does not suffice."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hayate.engines.base import Engine, Part
from hayate.errors import EngineError
from hayate.pipeline.guards import Guard, attempt, is_out_of_memory, wider
from hayate.pipeline.safe_types import SafeTypes
from hayate.runtime.precision import Precision
from tests.pipeline.faulty import FileEngine, file_engine, job_of, pictures_of, write_overflowing

PARTS: tuple[Part, ...] = ("unet", "text", "vae")
HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Part | None, Path]:
    """A tiny model for each part that overflows in fp16, and one that does not."""
    folder = tmp_path_factory.mktemp("models")
    for part in (None, *PARTS):
        write_overflowing(folder / f"{part}.safetensors", part)
    return {part: folder / f"{part}.safetensors" for part in (None, *PARTS)}


@pytest.mark.parametrize(
    ("part", "sampler"), [("unet", "Euler a"), ("unet", "DPM++ SDE"), ("text", "Euler a"), ("vae", "Euler a")]
)
def test_an_overflow_is_mended_by_the_next_type_bit_for_bit(
    part: Part, sampler: str, models: dict[Part | None, Path]
) -> None:
    job = job_of(models[part], sampler=sampler, batch_size=2, batch_count=2, steps=2)
    guard = Guard(engine=file_engine(models[part], SINGLE, **{part: HALF}))
    pictures = pictures_of(guard, job)
    wide_from_the_start = file_engine(models[part], SINGLE, **{part: BRAIN})
    assert np.array_equal(pictures, pictures_of(Guard(engine=wide_from_the_start), job))
    assert pictures.std() > 1
    for each in PARTS:
        assert getattr(guard.precision, each) is (BRAIN if each == part else SINGLE)
    assert len(guard.notes) == 1
    assert "bf16" in guard.notes[0]


@pytest.mark.parametrize(
    ("part", "again"), [("text", ("encode_text", "predict")), ("unet", ("predict",)), ("vae", ("decode",))]
)
def test_only_what_depends_on_the_failing_stage_runs_again(
    part: Part, again: tuple[str, ...], models: dict[Part | None, Path]
) -> None:
    job = job_of(models[part])
    failing, sound = file_engine(models[part], SINGLE, **{part: HALF}), file_engine(models[None], SINGLE)
    pictures_of(Guard(engine=failing), job)
    pictures_of(Guard(engine=sound), job)
    for call in ("encode_text", "predict", "decode"):
        assert failing.calls.count(call) == sound.calls.count(call) * (2 if call in again else 1)


def test_the_type_climbs_until_it_suffices(models: dict[Part | None, Path]) -> None:
    def fault(call: str, engine: Engine, result: Tensor) -> Tensor:
        return result * torch.nan if call == "predict" and engine.precision.unet is not SINGLE else result

    job = job_of(models[None], sampler="Euler a")
    engine = file_engine(models[None], SINGLE, unet=HALF)
    engine.fault = fault
    guard = Guard(engine=engine)
    pictures = pictures_of(guard, job)
    assert np.array_equal(pictures, pictures_of(file_engine(models[None], SINGLE), job))
    assert len(guard.notes) == 2


@pytest.mark.parametrize("call", ["encode_text", "predict", "decode"])
def test_what_no_type_mends_is_an_error_with_a_hint(call: str, models: dict[Part | None, Path]) -> None:
    engine = file_engine(models[None])
    engine.fault = lambda name, _, result: result * torch.nan if name == call else result
    with pytest.raises(EngineError, match="fp32") as caught:
        pictures_of(engine, job_of(models[None]))
    assert {"encode_text": "text", "predict": "U-Net", "decode": "VAE"}[call] in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("call", ["predict", "decode"])
def test_one_infinite_value_in_the_last_picture_is_enough(call: str, models: dict[Part | None, Path]) -> None:
    def fault(name: str, engine: Engine, result: Tensor) -> Tensor:
        result = result.clone()
        if name == call and engine.precision.unet is engine.precision.vae is BRAIN:
            result[-1, -1, -1, -1] = torch.inf
        return result

    engine = file_engine(models[None], BRAIN)
    engine.fault = fault
    guard = Guard(engine=engine)
    pictures_of(guard, job_of(models[None], batch_size=2))
    assert guard.failures >= 1
    assert getattr(guard.precision, "unet" if call == "predict" else "vae") is SINGLE


def test_unguarded_nothing_is_looked_at(models: dict[Part | None, Path]) -> None:
    guard = Guard(engine=file_engine(models["vae"], SINGLE, vae=HALF), checks_nan=False)
    guard.probe_vae()
    pictures = pictures_of(guard, job_of(models["vae"]))
    assert pictures.shape == (1, 64, 64, 3)
    assert guard.precision.vae is HALF
    assert guard.checks == 0
    assert not guard.notes


aten = torch.ops.aten
WAITING = {aten._local_scalar_dense, aten.item, aten.is_nonzero, aten.nonzero, aten.equal}


class Synchronisations(TorchDispatchMode):
    """Counts tensors that become Python numbers, for which a GPU would be waited for."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket in WAITING
        return func(*args, **(kwargs or {}))


def test_the_guard_waits_for_no_step(models: dict[Part | None, Path]) -> None:
    counts = []
    for steps in (2, 6):
        with Synchronisations() as seen:
            pictures_of(Guard(engine=file_engine(models[None])), job_of(models[None], steps=steps, sampler="Euler a"))
        counts.append(seen.count)
    assert counts[0] == counts[1] > 0


def test_the_probe_finds_an_overflow_before_any_picture(models: dict[Part | None, Path]) -> None:
    job = job_of(models["vae"])
    guard = Guard(engine=file_engine(models["vae"], SINGLE, vae=HALF))
    guard.probe_vae()
    assert guard.precision.vae is BRAIN
    pictures = pictures_of(guard, job)
    assert guard.failures == 0
    assert np.array_equal(pictures, pictures_of(file_engine(models["vae"], SINGLE, vae=BRAIN), job))


@pytest.mark.parametrize("dtype", [HALF, BRAIN, SINGLE])
def test_the_probe_leaves_a_sound_vae_alone(dtype: torch.dtype, models: dict[Part | None, Path]) -> None:
    guard = Guard(engine=file_engine(models[None], dtype))
    guard.probe_vae()
    assert guard.precision.vae is dtype
    assert not guard.notes


def test_types_widen_up_to_fp32_and_only_to_what_the_device_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda, mps = (torch.device(kind) for kind in ("cpu", "cuda", "mps"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert [wider(HALF, each) for each in (cpu, cuda, mps)] == [BRAIN, SINGLE, SINGLE]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert wider(HALF, cuda) is BRAIN
    assert [wider(dtype, cuda) for dtype in (BRAIN, SINGLE)] == [SINGLE, None]


def shortage_above(limit: int, error: Callable[[], BaseException] = torch.OutOfMemoryError, call: str = "predict"):
    """A fault: memory does not suffice for more than `limit` inputs, or latents, of a call."""

    def before(name: str, argument: Tensor) -> None:
        size = len(argument) if call == "predict" else argument.shape[2] * argument.shape[3]
        if name == call and size > limit:
            raise error()

    return before


ERRORS = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has …"),
    "python": MemoryError,
    "linux": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"),
    "windows": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9"),
    "cublas": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("limit", [3, 2, 1])
def test_the_unet_takes_what_fits(
    limit: int, error: Callable[[], BaseException], models: dict[Part | None, Path]
) -> None:
    job = job_of(models[None], batch_size=3, sampler="Euler a")
    untroubled = pictures_of(file_engine(models[None]), job)
    engine = file_engine(models[None])
    engine.before = shortage_above(limit, error)
    guard = Guard(engine=engine)
    pictures = pictures_of(guard, job)
    small_from_the_start = Guard(engine=file_engine(models[None]), inputs_at_once=guard.inputs_at_once)
    assert np.array_equal(pictures, pictures_of(small_from_the_start, job))
    # Kernels may add up in another order for another batch, and a rounding may fall to the other side.
    assert np.abs(pictures.astype(int) - untroubled).max() <= 1
    assert guard.inputs_at_once == limit
    assert all("out of memory in the U-Net" in note for note in guard.notes)
    assert len(guard.notes) == {3: 1, 2: 2, 1: 3}[limit]


def test_a_shortage_in_the_middle_costs_one_row_and_the_next_job_is_as_ever(models: dict[Part | None, Path]) -> None:
    job = job_of(models[None])
    engine = file_engine(models[None])
    left = [2]

    def before(call: str, _: Tensor) -> None:
        left[0] -= call == "predict"
        if call == "predict" and left[0] == 0:
            raise torch.OutOfMemoryError

    engine.before = before
    pictures_of(Guard(engine=engine), job)
    assert engine.calls.count("predict") == 1 + 1 + 2 * 2
    assert np.array_equal(pictures_of(Guard(engine=engine), job), pictures_of(file_engine(models[None]), job))


@pytest.mark.parametrize(("call", "title"), [("predict", "U-Net"), ("decode", "VAE")])
def test_what_no_plan_fits_is_an_error_that_names_size_and_flags(
    call: str, title: str, models: dict[Part | None, Path]
) -> None:
    engine = file_engine(models[None])
    engine.before = shortage_above(0, ERRORS["cuda"], call)
    with pytest.raises(EngineError, match="64x128") as caught:
        pictures_of(engine, job_of(models[None], height_px=128))
    assert title in caught.value.message
    assert "20.00 GiB" in caught.value.message
    assert "\n" not in caught.value.message
    assert "--size" in caught.value.hint
    assert "--medvram" in caught.value.hint


def test_a_text_encoder_without_memory_waits_on_the_host_or_is_an_error(models: dict[Part | None, Path]) -> None:
    def fault(call: str, _: Engine, result: Tensor) -> Tensor:
        if call == "encode_text":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return result

    job = job_of(models[None])
    short, offloaded = file_engine(models[None]), file_engine(models[None])
    short.fault = fault
    guard = Guard(engine=short)
    guard.offload = lambda precision: offloaded if guard.engine is short else None
    assert np.array_equal(pictures_of(guard, job), pictures_of(file_engine(models[None]), job))
    with pytest.raises(EngineError, match=r"out of memory in the text encoder: .*20\.00 GiB"):
        pictures_of(Guard(engine=short), job)


def test_the_vae_goes_over_to_tiles_of_the_size_that_fits(models: dict[Part | None, Path]) -> None:
    job = job_of(models[None], width_px=256, height_px=128)
    engine = file_engine(models[None])
    engine.before = shortage_above(8 * 8, call="decode")
    guard = Guard(engine=engine)
    pictures = pictures_of(guard, job)
    assert pictures.shape == (1, 128, 256, 3)
    assert guard.tile_px == 64
    assert [note.count("tiles") for note in guard.notes] == [1, 1]
    assert np.array_equal(pictures, pictures_of(Guard(engine=file_engine(models[None]), tile_px=64), job))


@pytest.mark.parametrize("call", ["predict", "decode"])
def test_weights_wait_on_the_host_before_a_picture_is_changed_or_lost(
    call: str, models: dict[Part | None, Path]
) -> None:
    job = job_of(models[None], batch_size=2)
    short, offloaded = file_engine(models[None]), file_engine(models[None])
    short.before = shortage_above(0, call=call)
    given: list[Precision] = []
    guard = Guard(engine=short)
    guard.offload = lambda precision: given.append(precision) or (offloaded if len(given) == 1 else None)
    pictures = pictures_of(guard, job)
    alone = Guard(engine=file_engine(models[None]), inputs_at_once=guard.inputs_at_once)
    assert np.array_equal(pictures, pictures_of(alone, job))
    assert given == [short.precision]
    assert "wait in the host's memory" in guard.notes[-1]
    assert guard.tile_px is None


def test_overlap_is_given_up_first(models: dict[Part | None, Path]) -> None:
    guard = Guard(engine=file_engine(models[None]), is_overlapping=True)
    engine = guard.engine
    assert isinstance(engine, FileEngine)
    engine.before = lambda call, argument: engine.calls.count("decode") == 1 and (_ for _ in ()).throw(MemoryError)
    guard.decode(torch.zeros((1, 4, 16, 16)))
    assert (guard.is_overlapping, guard.tile_px) == (False, None)
    assert len(guard.notes) == 1


def test_other_errors_go_through(models: dict[Part | None, Path]) -> None:
    engine = file_engine(models[None])
    engine.before = shortage_above(0, lambda: RuntimeError("expected scalar type Half but found Float"))
    with pytest.raises(RuntimeError, match="scalar type"):
        pictures_of(engine, job_of(models[None]))
    assert not is_out_of_memory(ValueError("x"))


def test_the_failed_attempts_memory_is_free_before_the_next() -> None:
    kept: list[weakref.ref[Tensor]] = []

    def fails() -> None:
        large = torch.zeros(10)
        kept.append(weakref.ref(large))
        raise torch.OutOfMemoryError

    attempt(fails)
    assert kept[0]() is None


def test_evidence_tells_what_acted(models: dict[Part | None, Path]) -> None:
    guard = Guard(engine=file_engine(models[None]), tile_px=64, inputs_at_once=1)
    pictures_of(guard, job_of(models[None], width_px=128))
    seen = {each.name: each for each in guard.evidence()}
    assert [seen[name].active for name in ("attention", "NaN guard", "VAE tiles", "inputs at once")] == [True] * 4
    assert not seen["overlapped decode"].active
    assert seen["inputs at once"].detail.startswith("6 ")


@pytest.fixture
def safe(tmp_path: Path) -> SafeTypes:
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"weights")
    return SafeTypes(path=tmp_path / "cache" / "safe.json", files=dict.fromkeys(PARTS, model))


def everywhere(dtype: torch.dtype) -> Precision:
    return Precision(unet=dtype, text=dtype, vae=dtype, reason="a test")


def test_a_safe_type_is_there_at_the_next_start(safe: SafeTypes) -> None:
    assert safe.applied_to(everywhere(HALF)) == (everywhere(HALF), [])
    assert safe.keep("vae", BRAIN)
    assert safe.keep("unet", SINGLE)
    precision, notes = safe.applied_to(everywhere(HALF))
    assert (precision.unet, precision.text, precision.vae) == (SINGLE, HALF, BRAIN)
    assert len(notes) == 2
    assert [path.name for path in safe.path.parent.iterdir()] == [safe.path.name]


def test_a_safe_type_narrows_nothing(safe: SafeTypes) -> None:
    safe.keep("vae", BRAIN)
    assert safe.applied_to(everywhere(SINGLE)) == (everywhere(SINGLE), [])


def test_a_replaced_model_starts_afresh(safe: SafeTypes) -> None:
    safe.keep("vae", BRAIN)
    safe.files["vae"].write_bytes(b"other weights")
    assert safe.applied_to(everywhere(HALF)) == (everywhere(HALF), [])
    safe.keep("unet", BRAIN)
    assert safe.applied_to(everywhere(HALF))[0].vae is HALF


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["types", "stamp", "vae", "x"]), inner),
)


@given(damage=st.binary(max_size=40) | JSON, place=st.sampled_from(["all", "entry", "types"]))
def test_a_damaged_memory_is_never_an_error(
    damage: object, place: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import json

    folder = tmp_path_factory.mktemp("safe")
    model = folder / "model"
    model.touch()
    safe = SafeTypes(path=folder / "safe.json", files=dict.fromkeys(PARTS, model))
    stamp = [model.stat().st_size, model.stat().st_mtime_ns]
    entry = {"stamp": stamp, "types": damage} if place == "types" else damage
    whole = damage if place == "all" else {str(model.resolve()): entry}
    safe.path.write_bytes(damage if isinstance(damage, bytes) else json.dumps(whole).encode())
    assert safe.applied_to(everywhere(HALF))[0] == everywhere(HALF)
    assert safe.keep("vae", BRAIN)
    assert safe.applied_to(everywhere(HALF))[0].vae is BRAIN


def test_a_damaged_memory_is_told(safe: SafeTypes) -> None:
    safe.keep("vae", BRAIN)
    safe.path.write_bytes(safe.path.read_bytes()[:20])
    precision, notes = safe.applied_to(everywhere(HALF))
    assert precision.vae is HALF
    assert "damaged" in notes[0]


def test_a_memory_that_cant_be_written_is_no_fault_of_the_picture(safe: SafeTypes) -> None:
    safe.path.parent.write_bytes(b"a file where the folder should be")
    assert not safe.keep("vae", BRAIN)
