"""A1111's "parameters" text: what a picture was made with, as people share and paste it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hayate.errors import UsageError

MAX_CHARACTERS = 1024 * 1024
MIN_PARAMETERS = 3
"""A last line with fewer pairs is part of the prompt."""
NEGATIVE = "Negative prompt:"

KEYS = (
    "Steps",
    "Sampler",
    "Schedule type",
    "CFG scale",
    "Image CFG scale",
    "Seed",
    "Face restoration",
    "Size",
    "Model hash",
    "Model",
    "FP8 weight",
    "Cache FP16 weight for LoRA",
    "VAE hash",
    "VAE",
    "Variation seed",
    "Variation seed strength",
    "Seed resize from",
    "Denoising strength",
    "Conditional mask weight",
    "Clip skip",
    "ENSD",
    "Token merging ratio",
    "Token merging ratio hr",
    "Init image hash",
    "RNG",
    "Tiling",
)
"""The built-in keys in the order in which they are written; others follow them in their own order."""
LAST_KEYS = ("Version", "User")

_OUTSIDE_KEY = re.compile(r"[^\w \-/]")
_KEY = re.compile(r"\w.+", re.DOTALL)
_SPACE = re.compile(r"\s*")
_QUOTED = re.compile(r'"(?:[^"\\]++|\\.)++"(?=,|\Z)')
_SIZE = re.compile(r"(\d+)x(\d+)")

INTERRUPTED_KEY = "Interrupted"
"""Of a half-made picture: after how many of how many evaluations somebody ended it."""
EXTENSIONS_KEY = "Extensions"
"""Beside A1111's keys: name and version of each extension that had a part in the picture."""
RECIPE_KEY = "Merge recipe"
"""Beside A1111's keys: the whole recipe of a merge, where "Model" has only the beginning of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Infotext:
    """A "parameters" text, taken apart; the values are unquoted texts."""

    prompt: str = ""
    negative_prompt: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


def format_infotext(info: Infotext) -> str:
    """The text as A1111 writes it: prompt, negative prompt, and one line of parameters in the order of the mapping.

    Source: A1111 behaviour.
    """
    pairs = (key if key == value else f"{key}: {quote(value)}" for key, value in info.parameters.items())
    negative = f"\n{NEGATIVE} {info.negative_prompt}" if info.negative_prompt else ""
    return f"{info.prompt}{negative}\n{', '.join(pairs)}".strip()


def order_parameters(values: Mapping[str, str | float | None]) -> dict[str, str]:
    """The values as texts in A1111's order: the built-in keys, then the others as they come, then version and user.

    A value of None is left out.
    """
    others = [key for key in values if key not in KEYS and key not in LAST_KEYS]
    ordered = ((key, values.get(key)) for key in (*KEYS, *others, *LAST_KEYS))
    return {key: _text_of(value) for key, value in ordered if value is not None}


def parse_infotext(text: str) -> Infotext:
    """The parts of a "parameters" text; any text is one, if need be all prompt.

    Raises: UsageError for a text of more than 1 MiB.
    Cost: linear in the length.
    Source: A1111 behaviour.
    """
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f"the parameters have {len(text)} characters", hint=f"at most {MAX_CHARACTERS} are read")
    *lines, last = text.strip().split("\n")
    pairs = list(find_pairs(last))
    if len(pairs) < MIN_PARAMETERS:
        lines, pairs = [*lines, last], []
    prompt: list[str] = []
    negative: list[str] = []
    current = prompt
    for line in map(str.strip, lines):
        content = line
        if line.startswith(NEGATIVE):
            current, content = negative, line.removeprefix(NEGATIVE).strip()
        if current or content:  # A1111 drops the empty lines at the start of either prompt
            current.append(content)
    parameters = {key: unquote(value) for key, value in pairs}
    return Infotext(prompt="\n".join(prompt), negative_prompt="\n".join(negative), parameters=parameters)


def find_pairs(line: str) -> Iterator[tuple[str, str]]:
    r"""Every "key: value" of a line, values still quoted.

    The pairs are those that A1111 finds with the regular expression
    `\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)`, whose time grows with the square of the line's length.
    Here every colon is visited once, and the key is read from what lies before it.
    Cost: linear in the length.
    """
    start = 0
    while (colon := line.find(":", start)) >= 0:
        key = _KEY.search(_OUTSIDE_KEY.split(line[start:colon])[-1])
        if not key:
            start = colon + 1
            continue
        value_start = _SPACE.match(line, colon + 1).end()  # type: ignore[union-attr]  # it matches an empty text too
        quoted = _QUOTED.match(line, value_start)
        comma = line.find(",", value_start)
        end = quoted.end() if quoted else comma if comma >= 0 else len(line)
        yield key[0], line[value_start:end]
        start = end + 1


def quote(value: str) -> str:
    """`value` as it stands in a line: as a JSON string if it holds a comma, a colon or a newline."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ",:\n") else value


def unquote(value: str) -> str:
    """The reverse of `quote`; a text that is no JSON string stays as it is."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        text = json.loads(value)
    except ValueError:
        return value
    return text if isinstance(text, str) else value


DEFAULTS = {
    "Clip skip": "1",
    "Hires resize-1": "0",
    "Hires resize-2": "0",
    "Hires sampler": "Use same sampler",
    "Hires schedule type": "Use same scheduler",
    "Hires checkpoint": "Use same checkpoint",
    "Hires prompt": "",
    "Hires negative prompt": "",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
    "Masked area padding": "32",
    "RNG": "GPU",
    "Schedule type": "Automatic",
    "VAE Encoder": "Full",
    "VAE Decoder": "Full",
    "FP8 weight": "Disable",
}
"""What a missing key means when a text is pasted. Source: A1111 behaviour."""


def pasted_parameters(info: Infotext) -> dict[str, str]:
    """The parameters as A1111 understands them when they are pasted: sizes in two, and what is missing filled in.

    Source: A1111 behaviour.
    """
    values: dict[str, str] = {}
    for key, value in info.parameters.items():
        if size := _SIZE.fullmatch(value):
            values[f"{key}-1"], values[f"{key}-2"] = size.groups()
        else:
            values[key] = value
    prompts = info.prompt + info.negative_prompt
    if "Emphasis" not in values and ("(" in prompts or "[" in prompts):
        values["Emphasis"] = "Original"
    return DEFAULTS | _old_behaviour(values, prompts) | values


def _old_behaviour(values: Mapping[str, str], prompts: str) -> dict[str, str]:
    """What a picture of an older A1111 version was made with, though its text doesn't say so."""
    version = version_of(values.get("Version", ""))
    if version is None:
        return {}
    rules = (
        ("Old prompt editing timelines", (1, 6, 0, 0), "[" in prompts),
        ("Pad conds v0", (1, 6, 0, 0), values.get("Sampler") in ("DDIM", "PLMS")),
        ("Downcast alphas_cumprod", (1, 7, 0, 225), True),
        ("Refiner switch by sampling steps", (1, 8, 0, 0), "Refiner" in values),
    )
    return {key: "True" for key, since, applies in rules if version < since and applies}


def version_of(text: str) -> tuple[int, ...] | None:
    """Major, minor, patch and commits of "v1.7.0-225-gabcdef0"; None for another program's version."""
    found = re.match(r"v(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:-(\d{1,6}))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else None


def _text_of(value: str | float) -> str:
    """A number as people write it: 7, not 7.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
