"""The weight store: pictures as without it, flat memory, nothing loaded twice, failures that change nothing."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from hayate.engines.networks import Loaders, Networks, load_networks, load_vae
from hayate.engines.store import ModelStore
from hayate.engines.torch import TorchEngine, load_engine
from hayate.errors import BrokenFile, TensorMismatch, UsageError
from hayate.models.config import Family, Prediction
from hayate.pipeline.resolve import resolve
from hayate.pipeline.text2image import text2image
from hayate.request import TextToImage
from hayate.runtime.precision import resolve_precision
from hayate.settings import load_settings
from hayate.weights import hashes
from hayate.weights.hashes import model_hash
from tests.tiny_models import random_tensors, tiny_config, write, write_tiny

CPU = torch.device("cpu")
FP32 = resolve_precision("fp32", CPU)
BF16 = resolve_precision("bf16", CPU)
PLENTY_BYTES = 2**40
WAIT_S = 20.0

both_ways = pytest.mark.parametrize("is_poured", [False, True], ids=["seated", "poured"])


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Two models of one architecture, one of another, and a VAE of its own."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny(folder / "a.safetensors", Family.SD1, seed=1, dtype=torch.float16)
    write_tiny(folder / "b.safetensors", Family.SD1, seed=2, dtype=torch.float16)
    write_tiny(folder / "v.safetensors", Family.SD2, seed=3, prediction=Prediction.V, dtype=torch.float16)
    write_tiny(folder / "eps.safetensors", Family.SD2, seed=4, dtype=torch.float16)
    return folder


@pytest.fixture
def files(folder) -> dict[str, Path]:
    return {path.stem: path for path in folder.iterdir()}


class Watched:
    """Loaders that count what they load, and keep only weak references to it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.unets: list[weakref.ref] = []

    @property
    def loaders(self) -> Loaders:
        return Loaders(networks=self.networks, vae=self.vae)

    def networks(self, path: Path, device, precision) -> Networks:
        self.counts[path.stem] += 1
        networks = load_networks(path, device, precision)
        self.unets.append(weakref.ref(networks.unet))
        return networks

    def vae(self, path: Path, config, dtype, device):
        self.counts[f"vae of {path.stem}"] += 1
        return load_vae(path, config, dtype, device)


def picture(engine: TorchEngine) -> np.ndarray:
    """What the real pipeline makes of two steps."""
    request = TextToImage(prompt="a cat", steps=2, seed=5, width_px=64, height_px=64, noise_source="CPU")
    (batch,) = text2image(engine, resolve(request, load_settings({}, environment={}), engine.config), lambda *_: None)
    return batch.pictures


@cache
def expected(model: Path, precision=FP32, vae: Path | None = None) -> np.ndarray:
    """The picture of an engine that was loaded by itself."""
    return picture(load_engine(model, CPU, precision, vae_path=vae))


def tensors_of(engine: TorchEngine) -> list[torch.Tensor]:
    return [each for part in (engine.unet, engine.vae, *engine.text) for each in part.parameters()]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool((a == b).all())


@both_ways
@pytest.mark.parametrize(("switches", "cache_bytes"), [(50, PLENTY_BYTES), (20, 0)], ids=["kept", "loaded anew"])
def test_switches_make_the_same_pictures_in_flat_memory(files, is_poured, switches: int, cache_bytes: int) -> None:
    store = ModelStore(cache_bytes, cache_bytes, is_poured=is_poured)
    names, resident = "ab", []
    for switch in range(switches):
        model = files[names[switch % 2]]
        assert same(picture(store.engine(model, CPU, FP32)), expected(model))
        if Path("/proc/self/statm").exists():
            resident.append(resident_bytes())
    assert not same(expected(files["a"]), expected(files["b"]))
    if resident:
        assert max(resident[10:]) <= 1.05 * resident[9]  # after warm-up


@both_ways
def test_what_is_kept_is_never_read_again(files, is_poured: bool) -> None:
    watched = Watched()
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES, loaders=watched.loaders, is_poured=is_poured)
    for _ in range(5):
        for name in "ab":
            store.engine(files[name], CPU, FP32)
            settle()
    straight_to_the_device = 1 if is_poured else 0
    assert watched.counts["a"] == watched.counts["vae of a"] == 1 + straight_to_the_device
    assert watched.counts["b"] == watched.counts["vae of b"] == 1
    proofs = {proof.name: proof for proof in store.evidence()}
    assert proofs["checkpoints cache"].active
    assert proofs["switch"].active
    assert "10 switches" in proofs["switch"].detail


def settle() -> None:
    """Waits for models that are being prepared."""
    for thread in threading.enumerate():
        if thread.name == "prefetch-model":
            thread.join(WAIT_S)


def test_pouring_leaves_every_parameter_where_it_is(files) -> None:
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES, is_poured=True)
    first = store.engine(files["a"], CPU, FP32)
    addresses = [tensor.data_ptr() for tensor in tensors_of(first)]
    for name in "bab":
        engine = store.engine(files[name], CPU, FP32)
        assert engine.unet is first.unet
        assert [tensor.data_ptr() for tensor in tensors_of(engine)] == addresses
        wanted = tensors_of(load_engine(files[name], CPU, FP32))
        assert all(torch.equal(now, want) for now, want in zip(tensors_of(engine), wanted, strict=True))
    assert "copied" in next(proof.detail for proof in store.evidence() if proof.name == "switch")


def test_seating_copies_nothing(files) -> None:
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES)
    addresses = {name: [each.data_ptr() for each in tensors_of(store.engine(files[name], CPU, FP32))] for name in "ab"}
    again = {name: [each.data_ptr() for each in tensors_of(store.engine(files[name], CPU, FP32))] for name in "ab"}
    assert again == addresses
    assert addresses["a"] != addresses["b"]


@both_ways
def test_another_architecture_and_another_prediction(files, is_poured: bool) -> None:
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES, is_poured=is_poured)
    for name in ("a", "v", "eps", "b", "eps", "v"):
        engine = store.engine(files[name], CPU, FP32)
        assert engine.config == load_networks(files[name], CPU, FP32).config
        assert same(picture(engine), expected(files[name]))


@both_ways
def test_a_vae_is_shared_between_models(files, is_poured: bool) -> None:
    watched = Watched()
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES, loaders=watched.loaders, is_poured=is_poured)
    engines = []
    for name in "aab":
        engines.append(store.engine(files[name], CPU, FP32, files["eps"]))
        assert same(picture(engines[-1]), expected(files[name], FP32, files["eps"]))
    assert engines[0].vae is engines[2].vae
    settle()
    assert watched.counts["vae of a"] == watched.counts["vae of b"] == 0
    assert watched.counts["vae of eps"] == (2 if is_poured else 1)
    assert same(picture(store.engine(files["b"], CPU, FP32)), expected(files["b"]))


@both_ways
def test_a_wider_vae_leaves_the_other_networks_alone(files, is_poured: bool) -> None:
    watched = Watched()
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES, loaders=watched.loaders, is_poured=is_poured)
    narrow = store.engine(files["a"], CPU, BF16)
    settle()
    loaded = watched.counts["a"]
    wide = store.engine(files["a"], CPU, replace(BF16, vae=torch.float32))
    settle()
    assert wide.unet is narrow.unet
    assert next(wide.vae.parameters()).dtype == torch.float32
    assert watched.counts["a"] == loaded
    assert same(picture(wide), expected(files["a"], replace(BF16, vae=torch.float32)))


@both_ways
def test_a_vae_of_another_architecture(files, tmp_path, is_poured: bool) -> None:
    config = tiny_config(Family.SD1)
    wide = replace(config, vae=replace(config.vae, channels=64))
    write(tmp_path / "wide.safetensors", dict(random_tensors(wide, 6)))
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES, is_poured=is_poured)
    for name, vae in (("a", None), ("b", tmp_path / "wide.safetensors"), ("a", None)):
        engine = store.engine(files[name], CPU, FP32, vae)
        assert same(picture(engine), expected(files[name], FP32, vae))


@both_ways
def test_a_switch_that_had_to_load_everything_proves_nothing(files, is_poured: bool) -> None:
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES, is_poured=is_poured)
    for name in "a" if is_poured else "av":  # where weights are poured, "v" finds a VAE of its architecture standing
        store.engine(files[name], CPU, FP32)
        settle()
        assert not any(proof.active for proof in store.evidence())


def test_the_same_model_again_is_the_same_engine(files) -> None:
    store = ModelStore(0, 0)
    assert store.engine(files["a"], CPU, FP32) is store.engine(files["a"], CPU, FP32)


def test_memory_goes_at_once_without_the_garbage_collector(files) -> None:
    watched = Watched()
    store = ModelStore(0, 0, loaders=watched.loaders)
    gc.collect()
    gc.disable()
    try:
        engine = store.engine(files["a"], CPU, FP32)
        engine = store.engine(files["b"], CPU, FP32)
        assert watched.unets[0]() is None
        assert watched.unets[1]() is engine.unet
        store.clear()
        del engine
        assert watched.unets[1]() is None
    finally:
        gc.enable()


def test_a_limit_of_one_and_a_half_models_keeps_one_model(files) -> None:
    def kept_models(cache_bytes: int) -> int:
        watched = Watched()
        store = ModelStore(cache_bytes, PLENTY_BYTES, loaders=watched.loaders)
        for name in "ab":
            store.engine(files[name], CPU, FP32)
        return sum(unet() is not None for unet in watched.unets)

    networks = load_networks(files["a"], CPU, FP32)
    model_bytes = sum(each.nbytes for module in networks.modules for each in module.parameters())
    assert kept_models(3 * model_bytes // 2) == 1
    assert kept_models(2 * model_bytes) == 2


@both_ways
def test_prefetching_returns_at_once_and_is_joined(files, is_poured: bool) -> None:
    begun, may_end = threading.Event(), threading.Event()
    counts: Counter[str] = Counter()

    def slowly(path: Path, device, precision) -> Networks:
        counts[path.stem] += 1
        if path.stem == "b":
            begun.set()
            assert may_end.wait(WAIT_S)
        return load_networks(path, device, precision)

    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES, loaders=Loaders(networks=slowly), is_poured=is_poured)
    store.engine(files["a"], CPU, FP32)
    store.prefetch(files["b"], CPU, FP32)  # would wait for ever if it waited
    store.prefetch(files["b"], CPU, FP32)
    assert begun.wait(WAIT_S)
    assert same(picture(store.engine(files["a"], CPU, FP32)), expected(files["a"]))  # serves meanwhile
    threading.Timer(0.05, may_end.set).start()
    assert same(picture(store.engine(files["b"], CPU, FP32)), expected(files["b"]))
    settle()
    assert counts["b"] == 1
    prefetch = next(proof for proof in store.evidence() if proof.name == "prefetch")
    assert prefetch.active
    assert prefetch.requested == "2 models"


def test_prefetching_does_not_displace_the_model_in_use(files) -> None:
    watched = Watched()
    store = ModelStore(1, 1, loaders=watched.loaders)
    in_use = store.engine(files["a"], CPU, FP32)
    store.prefetch(files["b"], CPU, FP32)
    settle()
    assert watched.counts["b"] == 1
    assert watched.unets[1]() is None  # there is no room for it
    assert store.engine(files["a"], CPU, FP32) is in_use


def test_without_a_cache_nothing_is_prefetched_in_vain(files) -> None:
    watched = Watched()
    store = ModelStore(0, 0, loaders=watched.loaders)
    store.prefetch(files["b"], CPU, FP32)
    settle()
    assert not watched.counts
    assert not next(proof for proof in store.evidence() if proof.name == "prefetch").active


def test_a_prefetch_that_fails_is_said_when_the_model_is_asked_for(tmp_path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"<html>")
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES)
    store.prefetch(broken, CPU, FP32)
    settle()
    with pytest.raises(BrokenFile, match="web page"):
        store.engine(broken, CPU, FP32)
    with pytest.raises(UsageError, match="can't be read"):
        store.prefetch(tmp_path / "nothing.safetensors", CPU, FP32)


@both_ways
@pytest.mark.parametrize("broken_part", ["networks", "vae"])
def test_a_load_that_fails_leaves_the_model_of_before_serving(files, tmp_path, is_poured, broken_part) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(files["b"])
    prefix = "first_stage_model." if broken_part == "vae" else "model.diffusion_model."
    del tensors[next(name for name in sorted(tensors, reverse=True) if name.startswith(prefix))]
    save_file(tensors, tmp_path / "broken.safetensors")
    watched = Watched()
    store = ModelStore(0, 0, loaders=watched.loaders, is_poured=is_poured)
    before = store.engine(files["a"], CPU, FP32)
    with pytest.raises(TensorMismatch, match="missing"):
        store.engine(tmp_path / "broken.safetensors", CPU, FP32)
    assert same(picture(before), expected(files["a"]))
    after = store.engine(files["a"], CPU, FP32)
    assert after.unet is before.unet
    assert watched.counts["a"] == 1
    assert same(picture(after), expected(files["a"]))


def test_pouring_that_breaks_off_is_never_handed_out(files, monkeypatch) -> None:
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES, is_poured=True)
    store.engine(files["a"], CPU, FP32)
    store.engine(files["b"], CPU, FP32)
    original, left = torch.Tensor.copy_, [40]

    def lost_device(self, *arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise RuntimeError("the device is lost")
        return original(self, *arguments, **options)

    settle()
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "copy_", lost_device)
        with pytest.raises(RuntimeError, match="lost"):
            store.engine(files["a"], CPU, FP32)
    assert same(picture(store.engine(files["b"], CPU, FP32)), expected(files["b"]))
    assert same(picture(store.engine(files["a"], CPU, FP32)), expected(files["a"]))


@both_ways
def test_a_replaced_file_is_noticed(files, tmp_path, is_poured: bool) -> None:
    watched = Watched()
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES, loaders=watched.loaders, is_poured=is_poured)
    path, new = tmp_path / "model.safetensors", tmp_path / "new.safetensors"
    path.write_bytes(files["a"].read_bytes())
    assert same(picture(store.engine(path, CPU, FP32)), expected(files["a"]))
    settle()
    new.write_bytes(files["b"].read_bytes())
    os.utime(new, ns=(1, 1))  # the size is the same: the time alone tells
    new.replace(path)
    assert same(picture(store.engine(path, CPU, FP32)), expected(files["b"]))
    settle()
    if not is_poured:
        assert watched.unets[0]() is None  # nobody can ask for the old one again


def test_hashes_are_computed_once_for_every_state_of_a_file(tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"one")
    store = ModelStore(0, 0, hashes_dir=tmp_path / "cache")
    first = store.hash_of(path)
    assert store.hash_of(path) is first
    assert first.result(WAIT_S) == model_hash(path)
    path.write_bytes(b"other")
    assert store.hash_of(path).result(WAIT_S) == model_hash(path) != first.result()


def test_a_hash_that_failed_is_tried_again(tmp_path, monkeypatch) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"one")
    store = ModelStore(0, 0)
    with monkeypatch.context() as patch:
        patch.setattr(hashes, "file_sha256", lambda *_: (_ for _ in ()).throw(UsageError("the disk is away")))
        with pytest.raises(UsageError, match="away"):
            store.hash_of(path).result(WAIT_S)
    assert store.hash_of(path).result(WAIT_S) == model_hash(path)


def test_prefetching_hashes_too(files, tmp_path) -> None:
    store = ModelStore(0, 0, hashes_dir=tmp_path)
    store.prefetch(files["a"], CPU, FP32)
    assert store.hash_of(files["a"]).result(WAIT_S) == model_hash(files["a"])
    assert (tmp_path / "hashes.sqlite").exists()


def test_threads_that_ask_for_models_in_turn_get_what_they_asked_for(files) -> None:
    store = ModelStore(PLENTY_BYTES, PLENTY_BYTES)
    weights = {name: load_networks(files[name], CPU, FP32).unet.out[2].bias for name in ("a", "b", "v", "eps")}
    wrong: list[str] = []

    def work(turn: int) -> None:
        for index in range(20):
            name = sorted(weights)[(turn + index) % 4]
            if not torch.equal(store.engine(files[name], CPU, FP32).unet.out[2].bias, weights[name]):
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert not wrong
