"""Model files made of others, merges and conversions, and those that are there twice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from hayate.engines.blending import blend_once
from hayate.jobs.bodies import Convert, Duplicates, Merge
from hayate.jobs.meter import Meter
from hayate.jobs.names import find_registered, find_vae
from hayate.jobs.records import Result
from hayate.jobs.tasks.station import Outcome, Station
from hayate.pipeline.converted import convert_model
from hayate.settings import Settings
from hayate.weights.builtin import builtin_model
from hayate.weights.contents import Alike, distinct_files, find_alike, spare_bytes
from hayate.weights.convert import Conversion, Ema, Treatment
from hayate.weights.folders import find_lora, model_files
from hayate.weights.merge_file import Places, dtype_named, write_recipe
from hayate.weights.read import read_header
from hayate.weights.recipes import full_recipe
from hayate.weights.rewrite import replace_part

BAKING_SHARE = 0.2
"""Of a merge with another VAE, what writing it once more takes."""
UNFINISHED = ".merging.safetensors"
"""How the name of a merge ends that still needs its VAE; it begins with a point, so that no list shows it."""


def merge(body: Merge, station: Station) -> Outcome:
    """Writes a merge into models_dir. Raises: HayateError, Cancelled; nothing is left behind then."""
    settings, meter, started = station.settings, station.meter(), time.perf_counter()
    meter.phase("merging")
    target = settings.models_dir / f"{body.output_name}.safetensors"
    with _unfinished(target, has_vae=body.vae is not None) as path:
        whole = 1.0 if body.vae is None else 1 - BAKING_SHARE
        notes = write_recipe(
            full_recipe(body.recipe, settings.models_dir, builtin_model(), allows_paths=False),
            path,
            places_of(settings),
            dtype=dtype_named(body.dtype),
            on_share=lambda share: meter.share(share * whole),
        )
        if body.vae is not None:
            counted = counting(meter, path, "baking", after=whole)
            replace_part(path, "vae", find_vae(body.vae, settings), target, counted)
    return Outcome(result=Result(notes=notes, facts=_facts(target, started)))


def convert(body: Convert, station: Station) -> Outcome:
    """Writes a converted model into models_dir. Raises: HayateError, Cancelled; nothing is left behind then."""
    settings, meter, started = station.settings, station.meter(), time.perf_counter()
    source = find_registered(body.model, settings)
    target = settings.models_dir / f"{body.output_name}.safetensors"
    conversion = Conversion(
        dtype=None if body.dtype == "keep" else body.dtype,
        ema=Ema(body.ema),
        parts={part: Treatment(treatment) for part, treatment in body.parts.items()},
    )
    meter.phase("converting")
    on_tensor = counting(meter, source, "converting")
    done = convert_model(source, target, conversion, is_probed=body.dtype == "fp16", on_tensor=on_tensor)
    notes = (*done.lines(), *((f"not tried out: {done.problem}",) if done.problem else ()))
    return Outcome(result=Result(notes=notes, facts=_facts(target, started)))


def duplicates(body: Duplicates, station: Station) -> Outcome:
    """Finds models that hold the same numbers under other names. Raises: Cancelled."""
    del body
    folder, meter, started = station.settings.models_dir, station.meter(), time.perf_counter()
    meter.phase("comparing")
    paths = distinct_files(model_files(folder))
    looked = iter(range(len(paths)))
    found = find_alike(
        paths, station.settings.cache_dir, lambda path: meter.share(next(looked) / len(paths), "comparing")
    )
    facts = {
        "files": len(paths),
        "spare_bytes": spare_bytes(found),
        "groups": [_group(each, folder) for each in found],
        "seconds": {"total": round(time.perf_counter() - started, 3)},
    }
    return Outcome(result=Result(facts=facts))


def _group(alike: Alike, folder: Path) -> dict[str, object]:
    return {
        "is_whole": alike.is_whole,
        "parts": list(alike.parts),
        "size_bytes": alike.size_bytes,
        "names": [path.relative_to(folder).as_posix() for path in alike.paths],
    }


def places_of(settings: Settings) -> Places:
    """Names are those of the user's folders, and no paths."""
    return Places(
        find=partial(find_registered, settings=settings),
        find_lora=partial(find_lora, folder=settings.lora_dir),
        cache_dir=settings.cache_dir,
        blend=blend_once,
    )


def counting(meter: Meter, path: Path, phase: str, *, after: float = 0.0) -> Callable[[str], None]:
    """What counts a file's tensors as they are written, and so asks at each whether to go on."""
    is_readable = path.suffix == ".safetensors" and path.is_file()
    count, done = len(read_header(path).tensors) if is_readable else 0, 0

    def on_tensor(name: str) -> None:
        """Raises: Cancelled."""
        nonlocal done
        del name
        done += 1
        share = after + (1 - after) * done / count if count else after
        meter.share(min(share, 0.99), phase)

    return on_tensor


@contextlib.contextmanager
def _unfinished(target: Path, *, has_vae: bool) -> Iterator[Path]:
    """Where a merge is written first: at its place, or beside it until its VAE is in it."""
    if not has_vae:
        yield target
        return
    path = target.with_name(f".{target.stem}{UNFINISHED}")
    path.unlink(missing_ok=True)  # of a worker that was killed
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _facts(target: Path, started: float) -> dict[str, object]:
    return {
        "path": str(target.resolve()),
        "name": target.name,
        "size_bytes": target.stat().st_size,
        "seconds": {"total": round(time.perf_counter() - started, 3)},
    }
