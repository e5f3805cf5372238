"""What a picture's file is called: A1111's patterns, filled in and made safe for any file system."""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from hayate.pipeline.job import Job

MAX_CHARACTERS = 128
"""As A1111's --filenames-max-length."""
MAX_BYTES = 200
"""File systems hold names of 255 bytes; the number, a copy's number and the ending need some of them."""
MAX_PROMPTWORDS = 8
_FORBIDDEN = re.compile(r'[#<>:"/\\|?*]')
_PIECE = re.compile(r"(?P<text>.*?)(?:\[(?P<word>[^\[\]]+)\]|$)", re.DOTALL)
_ARGUMENT = re.compile(r"<([^<>]*)>")
_SEPARATORS = re.compile(rf"[\s{re.escape(string.punctuation)}]+")
_DATE, _TIME = "%Y-%m-%d", "%Y%m%d%H%M%S"


@dataclass(frozen=True, slots=True, kw_only=True)
class NameFacts:
    """What a pattern can ask of a picture."""

    job: Job
    number: int
    """Of the picture in its job, from 0."""
    model_name: str
    model_hash: str
    vae_name: str
    started: datetime
    """When the job began, with its time zone."""
    saved: datetime
    """When the picture is saved."""

    @property
    def seed(self) -> int:
        """The picture's own."""
        return self.job.seeds_of(self.number)[0]


def fill_pattern(pattern: str, facts: NameFacts) -> str:
    """The name without number and ending that `pattern` means; never longer than a file system takes.

    A word in brackets that does not exist stays as it is; one that has nothing to say (`[batch_number]` in a batch of
    one) takes the text before it away.
    Source: A1111 behaviour.
    """
    if "[none]" in pattern.lower():
        return ""
    name = ""
    for piece in _PIECE.finditer(pattern):
        word = piece["word"]
        value = "" if word is None else _value_of(word, facts)
        if value is not None:
            name += piece["text"] + value
    return safe_name(name)


def safe_name(text: str) -> str:
    """`text` as a part of a file name on any system: no separators, no control characters, not too long."""
    letters = ("_" if _FORBIDDEN.match(each) or unicodedata.category(each)[0] == "C" else each for each in text)
    name = "".join("_" if each.isspace() and each != " " else each for each in letters)
    kept = name.lstrip(" ")[:MAX_CHARACTERS].encode("utf-8")[:MAX_BYTES].decode("utf-8", "ignore")
    return kept.rstrip(" .")


def _value_of(word: str, facts: NameFacts) -> str | None:
    """What stands for `[word]`; None where it has nothing to say."""
    name, _, rest = word.partition("<")
    arguments = _ARGUMENT.findall(f"<{rest}") if rest else []
    known = WORDS.get(name.strip().lower())
    return f"[{word}]" if known is None else known(facts, arguments)


def _when(moment: datetime, arguments: list[str]) -> str:
    """A moment in A1111's `[datetime<Format><Time zone>]`; an unknown zone is the machine's own."""
    form = arguments[0] if arguments and arguments[0] else _TIME
    try:
        zone = ZoneInfo(arguments[1]) if len(arguments) > 1 and arguments[1] else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        zone = None
    try:
        return moment.astimezone(zone).strftime(_plain(form))
    except ValueError:
        return moment.astimezone(zone).strftime(_TIME)


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "_")


def _digest(text: str, arguments: list[str]) -> str:
    length = int(arguments[0]) if arguments and arguments[0].isascii() and arguments[0].isdigit() else 8
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[: max(1, length)]


def _has_prompt(facts: NameFacts, arguments: list[str]) -> str:
    """Of `[hasprompt<word|else>…]` every word that is in the prompt, or what stands for it."""
    prompt = facts.job.prompt_text.casefold()
    choices = (argument.partition("|") for argument in arguments)
    return "".join(word if word.casefold() in prompt else other for word, _, other in choices)


def _prompt_words(text: str) -> str:
    words = [word for word in _SEPARATORS.split(text) if word]
    return " ".join(words[:MAX_PROMPTWORDS]) or "empty"


def _underscored(text: str) -> str:
    return text.replace(" ", "_")


def _in_batch(facts: NameFacts, value: int) -> str | None:
    return None if facts.job.batch_size == 1 else str(value)


def _in_job(facts: NameFacts) -> str | None:
    return None if facts.job.batch_size * facts.job.batch_count == 1 else str(facts.number + 1)


def _batch_seed(facts: NameFacts, place: int) -> int:
    """The seed of a picture of the same batch."""
    first = facts.number - facts.number % facts.job.batch_size
    return facts.job.seeds_of(first + place)[0]


WORDS: Mapping[str, Callable[[NameFacts, list[str]], str | None]] = MappingProxyType(
    {
        "seed": lambda facts, _: str(facts.seed),
        "seed_first": lambda facts, _: str(_batch_seed(facts, 0)),
        "seed_last": lambda facts, _: _in_batch(facts, _batch_seed(facts, facts.job.batch_size - 1)),
        "steps": lambda facts, _: str(facts.job.steps),
        "cfg": lambda facts, _: f"{facts.job.cfg:g}",
        "width": lambda facts, _: str(facts.job.width_px),
        "height": lambda facts, _: str(facts.job.height_px),
        "sampler": lambda facts, _: facts.job.sampler.name,
        "scheduler": lambda facts, _: facts.job.table.schedule,
        "sampler_scheduler": lambda facts, _: f"{facts.job.sampler.name} {facts.job.table.schedule}",
        "styles": lambda facts, _: ", ".join(facts.job.request.styles) or "None",
        "model_name": lambda facts, _: facts.model_name,
        "model_hash": lambda facts, _: facts.model_hash,
        "vae_filename": lambda facts, _: facts.vae_name or "NoneType",
        "clip_skip": lambda facts, _: str(facts.job.style.clip_skip or 1),
        "date": lambda facts, _: facts.saved.strftime(_DATE),
        "datetime": lambda facts, arguments: _when(facts.saved, arguments),
        "job_timestamp": lambda facts, _: facts.started.strftime(_TIME),
        "prompt": lambda facts, _: _underscored(facts.job.prompt_text),
        "prompt_spaces": lambda facts, _: facts.job.prompt_text,
        "prompt_no_styles": lambda facts, _: _underscored(facts.job.request.prompt),
        "prompt_words": lambda facts, _: _prompt_words(facts.job.prompt_text),
        "prompt_hash": lambda facts, arguments: _digest(facts.job.prompt_text, arguments),
        "negative_prompt_hash": lambda facts, arguments: _digest(facts.job.negative_text, arguments),
        "full_prompt_hash": lambda facts, arguments: _digest(
            f"{facts.job.prompt_text} {facts.job.negative_text}", arguments
        ),
        "hasprompt": _has_prompt,
        "batch_number": lambda facts, _: _in_batch(facts, facts.number % facts.job.batch_size + 1),
        "batch_size": lambda facts, _: str(facts.job.batch_size),
        "generation_number": lambda facts, _: _in_job(facts),
        "none": lambda *_: "",
    }
)
"""A1111's words; what each stands for, from the picture and the word's own `<arguments>`."""
