"""Merges in the weights that stand: the bits of a merge that was loaded, and nothing made anew that stays the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hayate.engines.identity import MergedId, source_id
from hayate.engines.mixing import OpenMerges, mix, plan_mixing
from hayate.engines.networks import config_of, load_networks, load_vae
from hayate.engines.store import ModelStore
from hayate.errors import HayateError, TensorMismatch
from hayate.models.config import Family
from hayate.runtime.precision import resolve_precision
from hayate.runtime.prepare import PLAIN, Preparation
from hayate.weights.merge import Merge
from hayate.weights.merge_steps import Step
from hayate.weights.merged import MergedModel, find_source, open_merged, source_hash
from tests.tiny_models import write_tiny

CPU = torch.device("cpu")
FP32, BF16 = resolve_precision("fp32", CPU), resolve_precision("bf16", CPU)
PLENTY_BYTES = 2**40
IN01 = "model.diffusion_model.input_blocks.1."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate("abc", start=1):
        write_tiny(folder / f"{name}.safetensors", Family.SD1, seed=seed, dtype=torch.float16)
    write_tiny(folder / "x.safetensors", Family.SDXL, seed=4, dtype=torch.float16)
    return folder


def merged(folder: Path, ratio: float, in01: float | None = None, second: str = "b") -> MergedModel:
    weights = "" if in01 is None else f', mbw="IN01={in01}"'
    found = find_source(f"merge(a, {second}, {ratio}{weights})", folder)
    assert isinstance(found, MergedModel)
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all tensors that were computed for merges."""
    names: list[str] = []
    step = Merge._step

    def spied(self: Merge, name: str) -> Step:
        names.append(name)
        return step(self, name)

    monkeypatch.setattr(Merge, "_step", spied)
    return names


def numbers(networks: object) -> Iterator[Tensor]:
    """Every tensor that networks compute with, in plain order."""
    waiting = [networks]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Tensor):
            yield each.to_dense() if each.is_mkldnn else each
        elif isinstance(each, torch.nn.Module):
            waiting += [value for key, value in sorted(vars(each).items()) if key not in ("attention", "kernels")]
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each


def same(ours: object, theirs: object) -> bool:
    pairs = list(zip(numbers(ours), numbers(theirs), strict=True))
    return len(pairs) > 50 and all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


@pytest.mark.parametrize("precision", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    "preparation",
    [PLAIN, Preparation(is_fused=True), Preparation(is_channels_last=True), Preparation(is_fused=True, is_packed=True)],
    ids=["plain", "fused", "channels-last", "packed"],
)
def test_networks_that_became_another_merge_are_those_that_were_loaded_as_it(folder, precision, preparation) -> None:
    before, after = source_id(merged(folder, 0.25)), source_id(merged(folder, 0.75))
    assert isinstance(after, MergedId)
    ours = load_networks(before.path, CPU, precision, preparation)
    theirs = load_networks(after.path, CPU, precision, preparation)
    config = config_of(before)
    assert not same(ours.modules, theirs.modules)
    vae, other = (load_vae(each.path, config, precision.vae, CPU, preparation) for each in (before, after))
    with OpenMerges() as opened:
        plan = plan_mixing(opened, after, before, config, is_vae=False)
        mixed = mix(opened, plan, ours, (precision.unet, precision.text))
        assert mixed.kept == 0
        assert same(ours.modules, theirs.modules)
        mix(opened, plan_mixing(opened, after, before, config, is_vae=True), vae, (precision.vae,))
        assert same(vae, other)


def test_a_block_weight_makes_the_tensors_of_its_block_and_no_others(folder, asked) -> None:
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES)
    store.engine(merged(folder, 0.5), CPU, FP32)
    asked.clear()
    other = merged(folder, 0.5, in01=0.9)
    engine = store.engine(other, CPU, FP32)
    with open_merged(other) as checkpoint:
        block = {name for name in checkpoint.tensors if name.startswith(IN01)}
    assert len(block) > 10
    assert sorted(asked) == sorted(block)
    assert same(engine.unet, load_networks(other, CPU, FP32).unet)
    asked.clear()
    store.engine(find_source('merge( a,b ,0.50, mbw="IN01=.9")', folder), CPU, FP32)
    assert asked == []


@pytest.mark.parametrize("is_poured", [False, True], ids=["seated", "poured"])
def test_the_way_through_merges_and_files_leaves_no_trace(folder, is_poured) -> None:
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES, is_poured=is_poured)
    files = [folder / "a.safetensors", folder / "c.safetensors"]
    way = [merged(folder, 0.2), merged(folder, 0.3), files[0], merged(folder, 0.3), merged(folder, 0.1, second="c")]
    for source in [*way, files[1], *reversed(way)]:
        engine = store.engine(source, CPU, FP32)
        fresh = load_networks(source, CPU, FP32)
        assert same(list(engine.unet.parameters()), list(fresh.unet.parameters()))
        assert same(list(engine.text[0].parameters()), list(fresh.text[0].parameters()))
        vae = load_vae(source, fresh.config, torch.float32, CPU)
        assert same(list(engine.vae.parameters()), list(vae.parameters()))


def test_merges_of_the_same_files_take_the_memory_of_one(folder) -> None:
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES)
    unets = {id(store.engine(merged(folder, ratio / 10), CPU, FP32).unet) for ratio in range(5)}
    assert len(unets) == 1
    assert store.evidence()[0].detail.startswith("1 kept")
    assert any(each.name == "merge" and each.active for each in store.evidence())


def test_a_mix_that_breaks_off_is_never_handed_out(folder, asked, monkeypatch) -> None:
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES)
    store.engine(merged(folder, 0.2), CPU, FP32)
    asked.clear()
    spied = Merge._step

    def failing(self: Merge, name: str) -> Step:
        if len(asked) == 20:
            raise MemoryError
        return spied(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Merge, "_step", failing)
        with pytest.raises(MemoryError):
            store.engine(merged(folder, 0.6), CPU, FP32)
    for ratio in (0.2, 0.6):
        engine = store.engine(merged(folder, ratio), CPU, FP32)
        assert same(engine.unet, load_networks(merged(folder, ratio), CPU, FP32).unet)


def test_other_families_are_one_line_and_change_nothing(folder) -> None:
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES)
    first = store.engine(merged(folder, 0.2), CPU, FP32)
    with pytest.raises(TensorMismatch, match="SDXL") as caught:
        store.engine(merged(folder, 0.2, second="x"), CPU, FP32)
    assert isinstance(caught.value, HayateError)
    assert "\n" not in str(caught.value)
    assert store.engine(merged(folder, 0.2), CPU, FP32).unet is first.unet


def test_the_hash_is_of_the_recipe_and_of_the_files(folder, tmp_path) -> None:
    hashes = {source_hash(merged(folder, ratio, second=name), tmp_path) for ratio in (0.2, 0.3) for name in "bc"}
    assert len(hashes) == 4
    assert all(len(each) == 10 and int(each, 16) >= 0 for each in hashes)
    assert source_hash(merged(folder, 0.2), tmp_path) == source_hash(merged(folder, 0.2))
