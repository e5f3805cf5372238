"""Weights that come and go: results stay equal to the last bit, and no more is on the device than was promised.

Copies from the CPU to the CPU are real copies, so that all but the overlap of streams is seen without a GPU.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from hayate.models.config import Family
from hayate.models.layers import skeleton
from hayate.models.unet import UNet
from hayate.models.vae import AutoencoderKL
from hayate.runtime.offload import Lane, Offloader, Parcel, blocks_of, divide
from tests.tiny_models import networks, random_tensors, tiny_config

CPU = torch.device("cpu")


@dataclass(kw_only=True)
class Model:
    unet: UNet
    text: list[nn.Module]
    vae: AutoencoderKL

    def modules(self) -> list[nn.Module]:
        return [self.unet, *self.text, self.vae]


def make(family: Family) -> Model:
    config = tiny_config(family)
    found = networks(config)
    tensors = dict(random_tensors(config, 0))
    for prefix, network in found.items():
        own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        network.load_state_dict(own, assign=True)
        network.eval().requires_grad_(requires_grad=False)
    unet, vae, *text = found.values()
    assert isinstance(unet, UNet)
    assert isinstance(vae, AutoencoderKL)
    return Model(unet=unet, text=text, vae=vae)


def picture(model: Model, offloader: Offloader | None, steps: int = 3) -> Iterator[Tensor]:
    """All that the networks of a model compute for one picture, in the pipeline's order."""
    bring = offloader.bring if offloader else lambda stage: None
    generator = torch.Generator().manual_seed(3)
    config = model.unet.config
    with torch.inference_mode():
        bring("text")
        ids = torch.randint(0, 49407, (2, 77), generator=generator)
        yield from (text(ids).context for text in model.text)
        bring("projections")
        vector = torch.randn((2, config.vector_width), generator=generator) if config.vector_width else None
        times = model.unet.project_times(torch.tensor([7.0, 900.0]), vector, torch.float32)
        contexts = model.unet.project_context(torch.randn((2, 77, config.context_width), generator=generator))
        yield from (times, *contexts)
        x = torch.randn((2, 4, 8, 8), generator=generator)
        for _ in range(steps):
            bring("unet")
            x = model.unet.step(x, times, contexts)
            yield x
        bring("vae")
        yield model.vae.decode(x[:1])


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("family", [Family.SD1, Family.SDXL])
def test_results_are_bit_equal(family: Family, is_streamed: bool) -> None:
    model = make(family)
    expected = list(picture(model, None))
    offloader = Offloader(model.unet, model.text, model.vae, CPU, is_streamed=is_streamed)
    for _ in range(2):
        actual = list(picture(model, offloader))
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
    proof = offloader.evidence()
    assert proof.active
    assert proof.requested == ("lowvram" if is_streamed else "medvram")


@pytest.mark.parametrize("family", list(Family))
def test_every_parameter_of_a_unet_has_one_place(family: Family) -> None:
    with skeleton():
        unet = UNet(tiny_config(family).unet)
    parts = divide(unet)
    found = [*parts.projections, *(each for block in parts.blocks for each in block), *parts.rest]
    assert len(found) == len({id(each) for each in found})
    assert {id(each) for each in found} == {id(each) for each in unet.parameters()}
    assert {id(each) for each in parts.rest} == {id(each) for each in unet.out.parameters()}


def test_a_step_reads_none_of_the_projections() -> None:
    unet = make(Family.SDXL).unet
    contexts = [torch.randn(2, 77, 2 * block.attn2.to_q.out_features) for block in unet.transformer_blocks()]
    times = torch.randn(2, max(block.times.stop for block in unet.res_blocks()))
    with torch.no_grad():
        for parameter in divide(unet).projections:
            parameter.fill_(torch.nan)
        assert torch.isfinite(unet.step(torch.randn(2, 4, 8, 8), times, contexts)).all()


class LateLane(Lane):
    """A lane whose copies are done at the last moment that streams allow: when the computing stream joins."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.log: list[str] = []
        self.waiting: list[tuple[Tensor, Tensor]] = []

    def copy(self, target: Tensor, source: Tensor) -> None:
        self.log.append("copy")
        self.waiting.append((target, source))

    def follow(self) -> None:
        self.log.append("follow")

    def join(self) -> None:
        self.log.append("join")
        for target, source in self.waiting:
            target.copy_(source)
        self.waiting.clear()


def test_a_block_waits_for_its_copy_and_a_copy_for_the_block_whose_place_it_takes() -> None:
    model = make(Family.SD1)
    expected = list(picture(model, None))
    offloader = Offloader(model.unet, model.text, model.vae, CPU, is_streamed=True)
    stream = offloader._stream
    assert stream is not None
    lane = stream._lane = LateLane()
    for block in blocks_of(model.unet):
        block.register_forward_hook(lambda *_: lane.log.append("compute"))
    actual = list(picture(model, offloader))
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
    log = lane.log
    computes = [index for index, word in enumerate(log) if word == "compute"]
    for place in computes:
        assert log[place - 3 : place] == ["join", "follow", "copy"], "the next copy is not beside the block"
    assert log[computes[0] - 5 : computes[0] - 3] == ["follow", "copy"]


def test_blocks_are_copied_ahead_and_one_step_costs_one_copy_of_the_blocks() -> None:
    model = make(Family.SD1)
    blocks_bytes = sum(sum(each.nbytes for each in block) for block in divide(model.unet).blocks)
    offloader = Offloader(model.unet, model.text, model.vae, CPU, is_streamed=True)
    stream = offloader._stream
    assert stream is not None
    list(picture(model, offloader, steps=4))
    count = len(blocks_of(model.unet))
    assert (stream.late, stream.ahead) == (1, 4 * count - 1)
    assert 4 * blocks_bytes <= stream.copied_bytes <= 1.1 * 4.5 * blocks_bytes


def test_a_step_that_breaks_off_is_followed_by_a_right_one() -> None:
    model = make(Family.SD1)
    expected = list(picture(model, None))
    offloader = Offloader(model.unet, model.text, model.vae, CPU, is_streamed=True)

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("injected")

    hook = model.unet.output_blocks[1].register_forward_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        list(picture(model, offloader))
    hook.remove()
    actual = list(picture(model, offloader))
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize("is_streamed", [False, True])
def test_no_more_is_away_from_home_than_promised(is_streamed: bool) -> None:
    """What is not at home is a storage other than a parcel's block."""
    model = make(Family.SDXL)
    parts = divide(model.unet)
    largest_block = max(sum(each.nbytes for each in block) for block in parts.blocks)
    sizes = {"text": sum(_size(each) for each in model.text), "vae": _size(model.vae), "unet": _size(model.unet)}
    offloader = Offloader(model.unet, model.text, model.vae, CPU, is_streamed=is_streamed)
    homes = {each.untyped_storage()._cdata for module in model.modules() for each in module.parameters()}
    highest = 0

    def look(*_: object) -> None:
        nonlocal highest
        away = {each.untyped_storage()._cdata: each.untyped_storage().nbytes() for each in _parameters(model)}
        highest = max(highest, sum(size for key, size in away.items() if key not in homes))

    hooks = [block.register_forward_hook(look) for block in blocks_of(model.unet)]
    list(picture(model, offloader))
    for hook in hooks:
        hook.remove()
    expected = largest_block if is_streamed else sizes["unet"]
    assert highest >= 0.9 * expected
    assert highest <= 1.1 * expected + sum(each.nbytes for each in parts.rest) + 4096
    offloader.send_home()
    look()
    assert {each.untyped_storage()._cdata for each in _parameters(model)} == homes


def test_weights_poured_at_home_are_the_ones_that_compute() -> None:
    model, other = make(Family.SD1), make(Family.SD1)
    with torch.no_grad():
        for parameter in _parameters(other):
            parameter.mul_(1.01)
    expected = list(picture(other, None))
    offloader = Offloader(model.unet, model.text, model.vae, CPU, is_streamed=True)
    list(picture(model, offloader))
    offloader.send_home()
    with torch.no_grad():
        for mine, new in zip(_parameters(model), _parameters(other), strict=True):
            mine.copy_(new)
    actual = list(picture(model, offloader))
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_weights_of_an_offloader_made_in_inference_mode_can_be_poured_over() -> None:
    model = make(Family.SD1)
    with torch.inference_mode():
        offloader = Offloader(model.unet, model.text, model.vae, CPU, is_streamed=False)
        offloader.bring("unet")
    offloader.send_home()
    with torch.no_grad():
        for parameter in _parameters(model):
            parameter.copy_(torch.zeros_like(parameter))
    with torch.inference_mode():
        offloader.bring("unet")
    assert not any(parameter.any() for parameter in model.unet.parameters())


def test_a_parcel_keeps_values_types_and_strides() -> None:
    torch.manual_seed(0)
    parameters = [
        nn.Parameter(torch.randn(3, 5)),
        nn.Parameter(torch.randn(4, 6, 3, 3).to(memory_format=torch.channels_last), requires_grad=False),
        nn.Parameter(torch.randn(7).bfloat16()),
        nn.Parameter(torch.randn(6, 4)[::2], requires_grad=False),
    ]
    before = [(each.detach().clone(), each.stride()) for each in parameters]
    parcel = Parcel(parameters, CPU)
    parcel.settle(parcel.home.clone())
    for parameter, (values, strides) in zip(parameters, before, strict=True):
        assert torch.equal(parameter, values)
        assert parameter.dtype == values.dtype
        if values.numel() > 12 or values.dim() == 1:
            assert parameter.stride() == strides
    assert parameters[3].is_contiguous(), "a gap was carried along"


def test_dropped_networks_give_their_memory_back() -> None:
    model = make(Family.SD1)
    offloader = Offloader(model.unet, model.text, model.vae, CPU, is_streamed=True)
    list(picture(model, offloader))
    died: list[bool] = []
    weakref.finalize(offloader, died.append, True)
    del offloader
    gc.collect()
    assert died


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("is_streamed", [False, True])
def test_on_a_gpu_results_are_bit_equal(is_streamed: bool) -> None:
    model, cuda = make(Family.SDXL), torch.device("cuda")
    for module in model.modules():
        module.to(cuda)
    expected = list(_picture_on(cuda, model, None))
    offloader = Offloader(model.unet, model.text, model.vae, cuda, is_streamed=is_streamed)
    actual = list(_picture_on(cuda, model, offloader))
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
    assert "pinned" in offloader.evidence().detail


def _picture_on(device: torch.device, model: Model, offloader: Offloader | None) -> Iterator[Tensor]:
    bring = offloader.bring if offloader else lambda stage: None
    unet = model.unet
    contexts = [
        torch.ones((2, 77, 2 * block.attn2.to_q.out_features), device=device) for block in unet.transformer_blocks()
    ]
    times = torch.ones((2, max(block.times.stop for block in unet.res_blocks())), device=device)
    x = torch.linspace(-1, 1, 2 * 4 * 16 * 16, device=device).view(2, 4, 16, 16)
    with torch.inference_mode():
        for _ in range(4):
            bring("unet")
            x = unet.step(x, times, contexts)
            yield x
        bring("vae")
        yield model.vae.decode(x[:1])


def _parameters(model: Model) -> Iterator[nn.Parameter]:
    for module in model.modules():
        yield from module.parameters()


def _size(module: nn.Module) -> int:
    return sum(each.nbytes for each in module.parameters())
