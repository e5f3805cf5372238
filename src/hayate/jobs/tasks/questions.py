"""What can be asked of the worker beside its work: plans, memory, versions, what is in a model."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import psutil
import torch

from hayate import __version__
from hayate.errors import HayateError, UnknownName, UsageError
from hayate.flags import given
from hayate.jobs.messages import Ask
from hayate.jobs.names import check_model, check_request_names
from hayate.jobs.wire import read_object
from hayate.pipeline.prepared import plan_request
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage, validate
from hayate.runtime.asked import Asked, asked_from
from hayate.runtime.device import resolve_device
from hayate.settings import Settings, changed_settings
from hayate.weights.described import describe_model


def answer(ask: Ask, settings: Settings, workspace: Workspace) -> dict[str, Any]:
    """The answer, as JSON can hold it.

    Raises: UnknownName for a question that nobody can answer, UsageError for its arguments; HayateError.
    """
    if ask.question not in QUESTIONS:
        raise UnknownName("question", ask.question, QUESTIONS)
    try:
        return QUESTIONS[ask.question](settings, workspace, **ask.arguments)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise UsageError(f"the question {ask.question} takes other arguments", hint=str(error)[:120]) from error


def plan(
    settings: Settings,
    workspace: Workspace,
    request: Mapping[str, Any] | None = None,
    asked: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What would compute a picture, and why."""
    del workspace
    settings = changed_settings(settings, changes or {}, allows_paths=False)
    wanted = read_object(TextToImage, {"prompt": "", **(request or {})}, "the request")
    validate(wanted)
    check_request_names(wanted, settings)
    found = plan_request(wanted, settings, asked_from(given.get(), read_object(Asked, asked or {}, "what is asked")))
    return {"device": found.device.title, "choices": found.as_object(), "notes": list(found.notes)}


def memory(settings: Settings, workspace: Workspace) -> dict[str, Any]:
    """Memory of the machine and of its first card, under A1111's names. Units: bytes."""
    del workspace
    whole, own = psutil.virtual_memory(), psutil.Process().memory_info().rss
    ram = {"free": whole.available, "used": own, "total": whole.total}
    device = resolve_device(settings.device).torch
    if device.type != "cuda":
        return {"ram": ram, "cuda": {"error": "unavailable"}}
    free, total = torch.cuda.mem_get_info(device)
    counted = torch.cuda.memory_stats(device)

    def pair(name: str) -> dict[str, int]:
        return {"current": counted.get(f"{name}.current", 0), "peak": counted.get(f"{name}.peak", 0)}

    cuda = {
        "system": {"free": free, "used": total - free, "total": total},
        "active": pair("active_bytes.all"),
        "allocated": pair("allocated_bytes.all"),
        "reserved": pair("reserved_bytes.all"),
        "inactive": pair("inactive_split_bytes.all"),
        "events": {"retries": counted.get("num_alloc_retries", 0), "oom": counted.get("num_ooms", 0)},
    }
    return {"ram": ram, "cuda": cuda}


def inspect(settings: Settings, workspace: Workspace, model: str) -> dict[str, Any]:
    """What a model is and holds."""
    del workspace
    check_model(model, settings)
    return describe_model(model, settings)


def evidence(settings: Settings, workspace: Workspace) -> dict[str, Any]:
    """What the caches did so far."""
    del settings
    rows = [(each.name, each.requested, each.active, each.detail) for each in workspace.evidence()]
    return {"evidence": [dict(zip(("name", "requested", "active", "detail"), row, strict=True)) for row in rows]}


def facts(settings: Settings) -> dict[str, Any]:
    """Versions, device and attention: what a page has at its foot."""
    try:
        plan = plan_request(TextToImage(prompt=""), settings, asked_from(given.get(), Asked()))
        device = resolve_device(settings.device)  # after the plan, which sets the threads that its title counts
    except HayateError as error:
        return {**_versions(), "device": "", "problem": str(error)}
    return {
        **_versions(),
        "device": device.title,
        "attention": plan.attention.backend.name,
        "threads": torch.get_num_threads(),
    }


def _facts(settings: Settings, workspace: Workspace) -> dict[str, Any]:
    del workspace
    return facts(settings)


def _versions() -> dict[str, Any]:
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    return {
        "hayate": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "cudnn": None if cudnn is None else str(cudnn),
    }


QUESTIONS: Mapping[str, Callable[..., dict[str, Any]]] = MappingProxyType(
    {"plan": plan, "memory": memory, "facts": _facts, "inspect": inspect, "evidence": evidence}
)
