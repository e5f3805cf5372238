"""All facts of this machine, gathered side by side, each within its time."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from hayate.doctor.facts import Facts
from hayate.doctor.probes import cards, folders, models, packages, processor, surroundings, system
from hayate.doctor.probes.ask import Unanswered
from hayate.flags import TakenFlags

Result = TypeVar("Result")
_THREADS = 4
"""Probes wait for other programs and for disks, not for processors."""


def gather_facts(flags: TakenFlags | None = None) -> Facts:
    """Everything about this machine.

    Cost: below 2 s; beside an NVIDIA card, the first time with a torch, its import on top.
    """
    settings, problem = surroundings.settings_here()
    about = system.system()
    unknown: list[str] = []

    def answer(future: Future[Result], otherwise: Result) -> Result:
        try:
            return future.result()
        except Unanswered as error:
            unknown.append(str(error))
            return otherwise

    with ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="probe") as pool:
        asked_cards = pool.submit(cards.cards, about)
        asked_windows = pool.submit(system.windows, about)
        asked_models = pool.submit(models.models, settings)
        asked_python = pool.submit(packages.python)
        asked_ports = pool.submit(surroundings.ports)
        python = asked_python.result()
        found_cards = answer(asked_cards, ())
        has_nvidia = any(card.vendor == "nvidia" for card in found_cards)
        ask_torch = partial(packages.torch, python, cache_dir=settings.cache_dir)
        asked_torch = pool.submit(ask_torch, has_nvidia=has_nvidia)
        found_models, note = asked_models.result()
        found_folders = folders.folders(settings, about, models.largest(settings))
        torch = answer(asked_torch, None)
        if torch is None and unknown:
            torch = ask_torch(has_nvidia=False)
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
            folders=found_folders,
            models=found_models,
            profiles=surroundings.profiles(settings),
            ports=asked_ports.result(),
            wishes=surroundings.wishes(settings, flags or TakenFlags(), problem),
            unknown=(*unknown, *([note] if note else [])),
        )
