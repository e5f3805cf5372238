"""All facts of this machine, gathered side by side, each within its time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from hayate.doctor.facts import Card, Facts, Python, Torch
from hayate.doctor.probes import cards, folders, models, packages, processor, surroundings, system
from hayate.doctor.probes.ask import Unanswered
from hayate.flags import TakenFlags
from hayate.settings import Settings, changed_settings

Result = TypeVar("Result")
_THREADS = 4
"""Probes wait for other programs and for disks, not for processors."""


def gather_facts(
    flags: TakenFlags | None = None, *, measures: bool = False, chosen: Mapping[str, Any] | None = None
) -> Facts:
    """Everything about this machine; `measures` also times copies on the first NVIDIA card.

    `chosen` are settings that act in the place of the file's.

    Cost: below 2 s; beside an NVIDIA card, the first time with a torch, its import on top.
    """
    written, problem = surroundings.settings_here()
    settings = changed_settings(written, chosen or {}, allows_paths=False)
    about = system.system()
    unknown: list[str] = []
    with ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="probe") as pool:
        asked_windows = pool.submit(system.windows, about)
        asked_models = pool.submit(models.models, settings)
        asked_python = pool.submit(packages.python)
        asked_ports = pool.submit(surroundings.ports)
        found_cards = _answer(partial(_cards, about, measures=measures), (), unknown)
        python = asked_python.result()
        torch = _torch(python, settings, found_cards, unknown)
        found_models, note = asked_models.result()
        unknown += [note] if note else []
        return Facts(
            system=about,
            python=python,
            processor=processor.processor(),
            memory=processor.memory(),
            torch=torch,
            windows=asked_windows.result(),
            cards=found_cards,
            allocator=processor.allocator(),
            toolchain=processor.toolchain(python),
            folders=folders.folders(settings, about, models.largest(settings)),
            models=found_models,
            profiles=surroundings.profiles(settings),
            extensions=surroundings.extensions(settings, flags or TakenFlags()),
            ports=asked_ports.result(),
            wishes=surroundings.wishes(settings, flags or TakenFlags(), problem),
            unknown=tuple(unknown),
        )


def _cards(about: system.System, *, measures: bool) -> tuple[Card, ...]:
    found = cards.cards(about)
    if not measures or not found or found[0].vendor != "nvidia":
        return found
    return (cards.with_cliff(found[0]), *found[1:])


def _torch(python: Python, settings: Settings, found: tuple[Card, ...], unknown: list[str]) -> Torch | None:
    """What is known of torch; where it can't be asked itself, what its files say."""
    look = partial(packages.torch, python, cache_dir=settings.cache_dir)
    has_nvidia = any(card.vendor == "nvidia" for card in found)
    told = _answer(partial(look, has_nvidia=has_nvidia), None, unknown)
    return told if told is not None or not has_nvidia else look(has_nvidia=False)


def _answer(probe: Callable[[], Result], otherwise: Result, unknown: list[str]) -> Result:
    """What a probe finds; what it could not find out becomes a line for the user."""
    try:
        return probe()
    except Unanswered as error:
        unknown.append(str(error))
        return otherwise
