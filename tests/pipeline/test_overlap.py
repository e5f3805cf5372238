"""Pictures are decoded and saved beside the sampling: in order, nothing lost, and what it took is written down."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from hayate.errors import EngineError, OutputError
from hayate.models.config import Family
from hayate.pipeline import saving, text2image
from hayate.pipeline.decode import Batch, Decoder, Sampled, decode_half_made, decode_latents
from hayate.pipeline.denoise import StepCallback
from hayate.pipeline.guards import Guard
from hayate.pipeline.guidance import Guidance
from hayate.pipeline.job import Seeds
from hayate.pipeline.overlap import Worker
from hayate.pipeline.session import make_pictures
from hayate.request import TextToImage
from hayate.runtime.asked import Asked
from hayate.settings import Settings, load_settings
from tests.pipeline.faulty import file_engine, job_of, pictures_of, write_overflowing
from tests.tiny_models import write_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    write_tiny(path, Family.SD1)
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    flags = {"cache_dir": tmp_path / "cache", "outputs_dir": tmp_path / "out"}
    return load_settings(flags, environment={})


def request_for(model: Path, **more: object) -> TextToImage:
    words = {"prompt": "a red sun", "steps": 2, "seed": 7, "width_px": 64, "height_px": 64, "batch_count": 3}
    return TextToImage(**{**words, "model": str(model), **more})


def quiet(done: int, rows: int) -> None:
    del done, rows


def ending_after(rows: int, error: BaseException) -> StepCallback:
    """A callback that raises `error` in the row after so many."""
    seen = itertools.count()

    def on_row(done: int, of: int) -> None:
        del done, of
        if next(seen) >= rows:
            raise error

    return on_row


def test_the_worker_keeps_the_order() -> None:
    def slow(number: int) -> Callable[[], int]:
        return lambda: time.sleep(0.01 * (number % 3)) or number

    with Worker[int](waiting=2) as worker:
        for number in range(8):
            worker.put(slow(number))
    assert worker.results == tuple(range(8))


def test_the_worker_holds_no_more_than_it_may() -> None:
    held, most = 0, 0

    def work() -> None:
        nonlocal held
        time.sleep(0.01)
        held -= 1

    with Worker[None](waiting=3) as worker:
        for _ in range(12):
            held += 1
            most = max(most, held)
            worker.put(work)
    assert most == 3 + 1


@pytest.mark.parametrize("waiting", [1, 8])
def test_errors_come_out_in_order_and_what_was_put_is_still_done(waiting: int) -> None:
    done: list[int] = []

    def work(number: int) -> int:
        done.append(number)
        if number in (1, 3):
            raise OutputError(f"picture {number}")
        return number

    def put_all(worker: Worker[int]) -> None:
        with worker:
            for number in range(5):
                worker.put(partial(work, number))

    worker = Worker[int](waiting=waiting)
    with pytest.raises(OutputError, match="picture 1"):
        put_all(worker)
    assert done == list(range(len(done)))
    assert len(done) >= 2
    assert worker.results == tuple(number for number in done if number not in (1, 3))


def test_leaving_by_an_error_waits_for_what_was_put() -> None:
    finished: list[int] = []

    def save(number: int) -> None:
        time.sleep(0.02)
        if number == 3:
            raise OutputError("disk full")
        finished.append(number)

    def interrupted() -> None:
        with Worker[None]() as worker:
            for number in range(4):
                worker.put(partial(save, number))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted()
    assert finished == [0, 1, 2]
    assert caught.value.__notes__ == ["while saving: disk full"]


class FakeStream:
    """A stream that computes only when it is waited for, and knows what happened in which order."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.begun: list[tuple[Guard, Tensor, list[Tensor]]] = []

    def begin(self, guard: Guard, latents: Tensor) -> list[Tensor]:
        self.events.append("begin")
        pixels = [torch.full((1, 3, 8 * latents.shape[2], 8 * latents.shape[3]), torch.nan) for _ in latents]
        self.begun.append((guard, latents, pixels))
        return pixels

    def wait(self, pixels: list[Tensor]) -> None:
        self.events.append("wait")
        guard, latents, waiting = self.begun.pop(0)
        assert waiting is pixels
        for each, one in zip(pixels, latents.split(1), strict=True):
            each.copy_(guard.decode(one))


def test_a_stream_decodes_beside_the_next_batch_and_changes_no_picture(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    job = job_of(model, batch_size=2, batch_count=3)
    expected = pictures_of(file_engine(model), job)
    monkeypatch.setattr(text2image, "Decoder", lambda guard: Decoder(guard, FakeStream(events)))
    guard = Guard(engine=file_engine(model))
    pictures = []
    for batch in text2image.text2image(
        guard, job, lambda done, rows: events.append("sampled") if done == rows else None
    ):
        events.append(f"out {batch.seeds.index}")
        pictures.append(batch.pictures)
    assert np.array_equal(np.concatenate(pictures), expected)
    one = ["sampled", "begin"]
    assert events == [*one, *one, "wait", "out 0", *one, "wait", "out 2", "wait", "out 4"]
    assert guard.overlapped == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, EngineError])
def test_what_is_being_decoded_survives_what_ends_the_next_batch(
    error: type[BaseException], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text2image, "Decoder", lambda guard: Decoder(guard, FakeStream([])))
    job = job_of(model, batch_count=3)
    out: list[Batch] = []
    pictures = text2image.text2image(file_engine(model), job, ending_after(job.table.rows + 1, error("now")))
    with pytest.raises(error):
        out.extend(pictures)
    assert len(out) == 1
    assert np.array_equal(out[0].pictures, pictures_of(file_engine(model), job_of(model)))


def test_a_picture_that_is_not_finite_is_mended_after_the_stream(tmp_path: Path) -> None:
    write_overflowing(tmp_path / "model", "vae")
    engine = file_engine(tmp_path / "model", vae=torch.float16)
    guard = Guard(engine=engine)
    decoder = Decoder(guard, FakeStream([]))
    latents = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    guidance = Guidance(variants=(), variant_of_evaluation=(), weights=(), has_padding=False)
    seeds = Seeds(index=0, seeds=(1, 2), subseeds=(0, 0))
    sampled = Sampled(seeds=seeds, latents=latents, guidance=guidance, encode_s=0, sample_s=0)
    assert list(decoder.put(sampled)) == []
    (batch,) = decoder.rest()
    wide = file_engine(tmp_path / "model", vae=torch.bfloat16)
    assert np.array_equal(batch.pictures, decode_latents(wide, latents))
    assert list(decoder.rest()) == []


def test_pictures_are_saved_by_another_thread_in_order(
    model: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    saves = saving.save_picture
    monkeypatch.setattr(saving, "save_picture", lambda *a, **k: threads.add(threading.get_ident()) or saves(*a, **k))
    report = make_pictures(request_for(model), settings, None, quiet)
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert [picture.seed for picture in report.pictures] == [7, 8, 9]
    assert [picture.path.name for picture in report.pictures] == ["00000-7.png", "00001-8.png", "00002-9.png"]


def test_an_interruption_leaves_every_finished_picture_whole(
    model: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves = saving.save_picture
    monkeypatch.setattr(saving, "save_picture", lambda *a, **k: time.sleep(0.05) or saves(*a, **k))
    with pytest.raises(KeyboardInterrupt):
        make_pictures(request_for(model), settings, None, ending_after(2 * 2, KeyboardInterrupt()))
    found = sorted(path.name for path in settings.outputs_dir.iterdir())
    assert found == ["00000-7.png", "00001-8.png"]
    for name in found:
        with Image.open(settings.outputs_dir / name) as picture:
            picture.load()


def test_a_picture_that_cant_be_saved_is_an_error(
    model: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves = saving.save_picture

    def full(*args: object, stem: str, **more: object) -> Path:
        if stem == "8":
            raise OutputError("disk full")
        return saves(*args, stem=stem, **more)

    monkeypatch.setattr(saving, "save_picture", full)
    with pytest.raises(OutputError, match="disk full"):
        make_pictures(request_for(model, batch_size=3, batch_count=1), settings, None, quiet)
    assert sorted(path.name for path in settings.outputs_dir.iterdir()) == ["00000-7.png", "00001-9.png"]


def test_the_picture_says_what_it_took_and_what_acted(model: Path, settings: Settings) -> None:
    report = make_pictures(request_for(model), settings, None, quiet, Asked(vae_tile_px=64))
    with Image.open(report.pictures[-1].path) as picture:
        speed = json.loads(picture.info["hayate"])["speed"]
    assert list(speed["seconds"]) == ["load", "encode", "sample", "decode", "save"]
    assert all(speed["seconds"][phase] > 0 for phase in ("load", "encode", "sample", "decode"))
    assert speed["it_per_s"] == pytest.approx(3 * 2 / report.seconds["sample"], rel=0.05)
    assert speed["peak_memory_bytes"] > model.stat().st_size
    assert speed["attention"] == report.plan["choices"]["attention"]["value"]
    names = {each["name"]: each for each in speed["evidence"]}
    assert names["NaN guard"]["active"]
    assert names["attention"]["active"]
    assert names["VAE tiles"]["detail"].startswith("3 ")


def test_a_model_is_learnt_once(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "overflowing.safetensors"
    write_overflowing(path, "vae")
    request = request_for(path, dtype="fp16", batch_count=1)
    first, second = (make_pictures(request, settings, None, quiet) for _ in range(2))
    assert "overflows in fp16" in " ".join(first.notes)
    assert "before" in " ".join(second.notes)
    assert first.plan["dtype"]["vae"] == second.plan["dtype"]["vae"] == "bf16"
    pictures = [np.asarray(Image.open(report.pictures[0].path)) for report in (first, second)]
    assert np.array_equal(*pictures)
    assert pictures[0].std() > 1
    with Image.open(second.pictures[0].path) as picture:
        assert json.loads(picture.info["hayate"])["notes"] == list(second.notes)
    unguarded = make_pictures(request, settings, None, quiet, Asked(checks_nan=False))
    assert unguarded.plan["dtype"]["vae"] == "fp16"


def test_a_half_made_batch_that_can_not_be_decoded_is_a_note_and_no_failure(model: Path) -> None:
    guard = Guard(engine=file_engine(model))
    latents = torch.full((1, 4, 8, 8), float("nan"))
    half = Sampled(
        seeds=Seeds(index=0, seeds=(7,), subseeds=(7,)),
        latents=latents,
        guidance=None,  # pyright: ignore[reportArgumentType]
        encode_s=0.0,
        sample_s=0.0,
    )
    assert list(decode_half_made(guard, half)) == []
    assert any("half-made picture is left out" in note for note in guard.notes)
