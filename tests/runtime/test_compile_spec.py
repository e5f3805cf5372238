"""What is compiled and under which key: one artefact for all that it serves, another for everything else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hayate.models import config as models
from hayate.runtime.compile import spec as specs
from hayate.runtime.compile.spec import (
    AREAS_LAT,
    BATCHES,
    Bucket,
    CompileRefused,
    CompileSpec,
    Sizes,
    Target,
    artefact_key,
    bucket_for,
    from_json,
    to_json,
)

CPU = torch.device("cpu")
UNET = Target(part="unet", config=models.SD1_UNET, dtype=torch.bfloat16, device=CPU)
VAE = Target(part="vae", config=models.SDXL.vae, dtype=torch.float32, device=CPU)
TEXT = Target(part="text", config=models.OPEN_CLIP_H, dtype=torch.float16, device=CPU, skip=2)
SPEC = CompileSpec(target=UNET, bucket=Bucket(batch=2, area_lat=4096), is_tuned=False)


@pytest.mark.parametrize("target", [UNET, VAE, TEXT, replace(UNET, config=models.SDXL_UNET, is_fused=True)])
@pytest.mark.parametrize("exact", [None, (2, 64, 96)])
def test_the_worker_reads_what_was_written(target: Target, exact: tuple[int, int, int] | None) -> None:
    spec = CompileSpec(target=target, bucket=Bucket(batch=2, area_lat=4096, exact=exact), is_tuned=True)
    assert from_json(to_json(spec)) == spec


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, is_tuned=True),
        replace(SPEC, bucket=Bucket(batch=8, area_lat=4096)),
        replace(SPEC, bucket=Bucket(batch=2, area_lat=4096, exact=(2, 64, 64))),
        replace(SPEC, target=replace(UNET, dtype=torch.float32)),
        replace(SPEC, target=replace(UNET, config=models.SD2_UNET)),
        replace(SPEC, target=replace(UNET, config=replace(models.SD1_UNET, in_channels=9))),
        replace(SPEC, target=replace(UNET, is_channels_last=True)),
        replace(SPEC, target=replace(UNET, is_fused=True)),
    ],
)
def test_whatever_is_compiled_otherwise_has_another_key(other: CompileSpec) -> None:
    assert artefact_key(other) != artefact_key(SPEC)


def test_the_key_changes_with_pytorch_the_machine_and_our_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {artefact_key(SPEC)}
    assert artefact_key(SPEC) in keys, "the same twice"
    for name, value in (("capability", lambda device: "another"), ("source_digest", lambda: "another")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(specs, name, value)
            keys.add(artefact_key(SPEC))
    monkeypatch.setattr(torch, "__version__", "99.0")
    assert len(keys | {artefact_key(SPEC)}) == 4


@given(st.integers(1, 40), st.integers(1, 300), st.integers(1, 300), st.integers(1, 40))
def test_a_bucket_holds_what_it_is_given_and_no_smaller_one_does(b: int, rows: int, columns: int, chunks: int) -> None:
    sizes = Sizes(b, 8 * rows, 8 * columns, chunks)
    try:
        bucket = bucket_for(UNET, sizes)
    except CompileRefused:
        too_large = b > BATCHES[-1] or 64 * rows * columns > AREAS_LAT[-1] or 8 * max(rows, columns) > 512
        assert too_large or chunks > 32 or min(rows, columns) < 2
        return
    assert sizes.batch <= bucket.batch
    assert sizes.height_lat * sizes.width_lat <= bucket.area_lat
    assert max(sizes.height_lat, sizes.width_lat) <= bucket.side_lat
    for area in (area for area in AREAS_LAT if area < bucket.area_lat):
        smaller = Bucket(batch=bucket.batch, area_lat=area)
        assert sizes.height_lat * sizes.width_lat > area or max(sizes[1:3]) > smaller.side_lat


def test_what_people_use_most_shares_few_buckets() -> None:
    usual = [Sizes(2, 64, 64), Sizes(1, 64, 64), Sizes(2, 96, 32), Sizes(2, 64, 48, 3)]
    assert len({bucket_for(UNET, sizes) for sizes in usual}) == 1
    assert bucket_for(UNET, Sizes(2, 128, 128)) != bucket_for(UNET, Sizes(2, 64, 64))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (Sizes(2, 65, 64), "multiples of 64"),
        (Sizes(2, 8, 8), "too few"),
        (Sizes(33, 64, 64), "more than is compiled for"),
        (Sizes(2, 1024, 16), "more than is compiled for"),
        (Sizes(2, 64, 64, 33), "33 chunks"),
    ],
)
def test_what_no_artefact_serves_is_refused_with_a_reason(sizes: Sizes, words: str) -> None:
    with pytest.raises(CompileRefused, match=words):
        bucket_for(UNET, sizes)


def test_a_shape_that_is_used_often_has_a_bucket_of_its_own() -> None:
    exact = {(2, 65, 64)}
    assert bucket_for(UNET, Sizes(2, 65, 64), exact).exact == (2, 65, 64)
    assert bucket_for(UNET, Sizes(2, 64, 64), exact).exact is None


def test_the_digest_is_of_the_sources_that_are_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = specs.source_digest()
    room = tmp_path / "hayate"
    real = Path(specs.__file__).parents[2]
    for folder in ("models", "runtime/compile"):
        (room / folder).mkdir(parents=True)
        for file in (real / folder).glob("*.py"):
            (room / folder / file.name).write_bytes(file.read_bytes())
    (room / "runtime/fused.py").write_bytes((real / "runtime/fused.py").read_bytes())
    monkeypatch.setattr(specs, "__file__", str(room / "runtime/compile/spec.py"))
    assert specs.source_digest() == before
    with (room / "models/unet.py").open("a") as file:
        file.write(f"# {os.getpid()}")
    assert specs.source_digest() != before
