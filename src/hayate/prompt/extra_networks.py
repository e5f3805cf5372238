"""`<lora:name:0.8>` and its kin: networks that a prompt asks for, taken out of its text."""

from __future__ import annotations

import re
from dataclasses import dataclass

OPENING = re.compile(r"<(\w+):")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraNetwork:
    """A network asked for in a prompt; what its arguments mean is for its kind to say.

    `<lora:name:te:unet:dyn>` gives the strengths by place, `<lora:name:te=0.5:unet=1>` by name.
    """

    kind: str
    """As written: lora, lyco, hypernet, or a word that nobody knows."""
    name: str
    positional: tuple[str, ...] = ()
    """The unnamed arguments after the name."""
    named: tuple[tuple[str, str], ...] = ()


def split_extra_networks(text: str) -> tuple[str, tuple[ExtraNetwork, ...]]:
    """`text` without its `<kind:…>` marks, and what they ask for, in order.

    Source: A1111 behaviour; marks of unknown kinds are taken out as well.
    """
    kept: list[str] = []
    networks: list[ExtraNetwork] = []
    position = 0
    opening = OPENING.search(text)
    while opening:
        # The search for the end is not repeated once it fails, so that many openings without an end stay cheap.
        end = text.find(">", opening.end())
        if end < 0:
            break
        if end > opening.end():
            kept.append(text[position : opening.start()])
            networks.append(read_extra_network(opening[1], text[opening.end() : end]))
            position = end + 1
        opening = OPENING.search(text, max(position, opening.end()))
    return "".join([*kept, text[position:]]), tuple(networks)


def read_extra_network(kind: str, arguments: str) -> ExtraNetwork:
    """The network that `arguments`, parted by colons, ask for."""
    positional: list[str] = []
    named: list[tuple[str, str]] = []
    for argument in arguments.split(":"):
        if argument.count("=") == 1:
            key, _, value = argument.partition("=")
            named.append((key, value))
        else:
            positional.append(argument)
    name, *rest = positional or [""]
    return ExtraNetwork(kind=kind, name=name, positional=tuple(rest), named=tuple(named))
