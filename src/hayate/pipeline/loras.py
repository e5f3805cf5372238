"""The LoRAs that a prompt names: found in their folder, with the strengths that it gives them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hayate.engines.loras import LoraUse
from hayate.errors import UnknownName, UsageError, clip
from hayate.prompt.extra_networks import ExtraNetwork
from hayate.weights.folders import find_lora

LORA_KINDS = frozenset({"lora", "lyco"})
_NOT_APPLIED = {"hypernet": "hypernetworks are not applied, they were given up for LoRAs"}


def find_loras(networks: Iterable[ExtraNetwork], folder: Path, notes: list[str]) -> tuple[LoraUse, ...]:
    """The files of the LoRAs among `networks`; of the others and of unknown names a note says that they are left out.

    A name that stands twice acts twice.
    Raises: UsageError for a strength that is no number, or a name that several files share.
    Source: A1111 behaviour, docs/compat.md.
    """
    uses = []
    for network in networks:
        mark = f"<{network.kind}:{clip(network.name)}>"
        if network.kind not in LORA_KINDS:
            reason = _NOT_APPLIED.get(network.kind, f"there are no extra networks of the kind {clip(network.kind)!r}")
            notes.append(f"{mark} is left out: {reason}")
            continue
        try:
            path = find_lora(network.name, folder)
        except UnknownName as error:
            notes.append(f"{mark} is left out: {error}")
        else:
            uses.append(use_of(network, path))
    return tuple(uses)


def use_of(network: ExtraNetwork, path: Path) -> LoraUse:
    """How `<lora:name:te:unet:dyn>` asks for a file: without `unet`, it is as strong as `te`, and that 1 by default.

    Raises: UsageError.
    """
    given = dict(zip(("te", "unet", "dyn"), network.positional, strict=False)) | dict(network.named)
    text = _number(network, given.get("te", "1"))
    unet = _number(network, given["unet"]) if "unet" in given else text
    rank = int(_number(network, given["dyn"])) if "dyn" in given else None
    if rank is not None and rank < 1:
        raise UsageError(f"<{network.kind}:{clip(network.name)}>: dyn {rank} is no rank", hint="it is 1 or more")
    return LoraUse(name=network.name, path=path, text=text, unet=unet, rank=rank)


def _number(network: ExtraNetwork, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) <= 1000:
        raise UsageError(
            f"<{network.kind}:{clip(network.name)}>: {clip(text, 30)!r} is no strength",
            hint="write <lora:name:0.8>, or <lora:name:text:unet>",
        )
    return value
