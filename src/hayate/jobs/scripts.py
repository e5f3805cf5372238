"""A1111's built-in scripts as parts of a `generate` job: one request that stands for many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, runtime_checkable

from hayate.errors import UnknownName, UsageError, clip
from hayate.extensions.chosen import why_absent
from hayate.extensions.current import current
from hayate.extensions.discovery import Origin
from hayate.jobs.lent_scripts import LentScript, lent_script
from hayate.jobs.names import check_request_names, check_upscaler
from hayate.jobs.wire import as_object, read_object
from hayate.pipeline.axes import MAX_CELLS, Axis, Cell, cells, parse_axis
from hayate.pipeline.loops import Loops, check_loops
from hayate.pipeline.prompt_matrix import Matrix, requests_of
from hayate.pipeline.prompts_file import MAX_BYTES, requests_of_text
from hayate.request import TextToImage, validate
from hayate.runtime.asked import Asked
from hayate.settings import Settings


class Script(Protocol):
    """What is made of a request."""

    @property
    def name(self) -> str: ...

    def check(self, request: TextToImage, asked: Asked, settings: Settings) -> None:
        """Raises: UsageError, UnknownName."""
        ...


@runtime_checkable
class Requests(Protocol):
    """A script that needs nothing but requests: what extensions bring is of this kind."""

    def requests(self, request: TextToImage, asked: Asked) -> Sequence[tuple[TextToImage, Asked]]:
        """What is made in place of a request, one after the other.

        Raises: UsageError, UnknownName.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class XYZPlot:
    """A picture for every combination of axes, such as "Steps=10,20", and a sheet of them."""

    name: ClassVar[str] = "x/y/z plot"
    x: str | None = None
    y: str | None = None
    z: str | None = None

    def axes(self) -> tuple[Axis, Axis, Axis]:
        """Raises: UsageError, UnknownName."""
        return parse_axis(self.x), parse_axis(self.y), parse_axis(self.z)

    def check(self, request: TextToImage, asked: Asked, settings: Settings) -> None:
        axes = self.axes()
        count = prod(len(axis.values) for axis in axes)
        if self.x is None and self.y is None and self.z is None:
            raise UsageError("a plot needs an axis", hint='x: "Steps=10,20,30"')
        if count > MAX_CELLS:
            raise UsageError(f"{count} pictures in one plot are too many", hint=f"at most {MAX_CELLS}")
        for _, cell in cells(Cell(request=request, asked=asked), *axes):
            _check(cell.request, settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMatrix:
    """Every combination of the parts of a prompt, "a|b|c", and a sheet of them."""

    name: ClassVar[str] = "prompt matrix"
    delimiter: str = "comma"
    is_at_start: bool = False
    is_negative: bool = False
    has_different_seeds: bool = False

    def matrix(self, request: TextToImage) -> Matrix:
        return Matrix(
            text=request.negative_prompt if self.is_negative else request.prompt,
            delimiter=self.delimiter,
            is_at_start=self.is_at_start,
            is_negative=self.is_negative,
            has_different_seeds=self.has_different_seeds,
        )

    def check(self, request: TextToImage, asked: Asked, settings: Settings) -> None:
        del asked, settings
        requests_of(self.matrix(request), request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loopback:
    """Img2img of its own result, again and again."""

    name: ClassVar[str] = "loopback"
    loops: int = 4
    final_denoising: float = 0.5
    curve: str = "linear"

    def wanted(self) -> Loops:
        return Loops(count=self.loops, final_denoising=self.final_denoising, curve=self.curve)

    def check(self, request: TextToImage, asked: Asked, settings: Settings) -> None:
        del asked, settings
        check_loops(request, self.wanted())


@dataclass(frozen=True, slots=True, kw_only=True)
class SDUpscale:
    """The picture larger, and made anew in tiles."""

    name: ClassVar[str] = "sd upscale"
    upscaler: str = "Lanczos"
    scale: float = 2.0
    overlap_px: int = 64

    def check(self, request: TextToImage, asked: Asked, settings: Settings) -> None:
        del asked
        if request.start is None:
            raise UsageError("SD upscale needs a picture to start from", hint="start: {path: …}")
        if not 1 <= self.scale <= 8 or not 0 <= self.overlap_px <= 1024:
            raise UsageError("SD upscale's numbers are out of range", hint="scale 1 to 8, overlap_px 0 to 1024")
        check_upscaler(self.upscaler, settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptsFromFile:
    """One job a line, each a prompt or options."""

    name: ClassVar[str] = "prompts from file"
    text: str
    has_next_seeds: bool = False
    """Whether each line has the next seed, instead of the same."""
    has_one_seed: bool = False
    """Whether a seed that is drawn is drawn once for all lines."""

    def check(self, request: TextToImage, asked: Asked, settings: Settings) -> None:
        del asked
        if len(self.text) > MAX_BYTES:
            raise UsageError(f"the prompts have {len(self.text)} characters", hint=f"at most {MAX_BYTES}")
        for _, each in requests_of_text(self.text, request):
            _check(each, settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outpainting:
    """More around the picture, made anew with what is under its mask."""

    name: ClassVar[str] = "outpainting"
    left_px: int = 128
    top_px: int = 128
    right_px: int = 128
    bottom_px: int = 128

    def check(self, request: TextToImage, asked: Asked, settings: Settings) -> None:
        for each, _ in self.requests(request, asked):
            _check(each, settings)

    def requests(self, request: TextToImage, asked: Asked) -> Sequence[tuple[TextToImage, Asked]]:
        if request.start is None:
            raise UsageError("outpainting needs a picture to start from", hint="start: {path: …}")
        extend_px = (self.left_px, self.top_px, self.right_px, self.bottom_px)
        if not any(extend_px):
            raise UsageError("outpainting adds nothing", hint="left_px: 128")
        # The size is that of the picture with what is added, whatever the form says.
        start = replace(request.start, extend_px=extend_px)
        return [(replace(request, start=start, width_px=None, height_px=None), asked)]


SCRIPTS: Mapping[str, type] = MappingProxyType(
    {each.name: each for each in (XYZPlot, PromptMatrix, Loopback, SDUpscale, PromptsFromFile, Outpainting)}
)
"""Those that are built in; `read_script` finds them by their manifests, as it finds those of extensions."""


def read_script(words: Any) -> Script:
    """The script of {"name": …, …}; nothing of extensions is imported. Raises: UnknownName, UsageError."""
    if not isinstance(words, Mapping) or not isinstance(words.get("name"), str):
        raise UsageError("the script has no name", hint=f"one of: {', '.join(current().names('scripts'))}")
    name = words["name"]
    current().refresh()
    hook = current().find("scripts", name)
    if hook is None:
        if why := why_absent("scripts", name):
            raise UsageError(f"the script {clip(name)!r} can't be had: {why}", hint="hayate extensions lists all")
        raise UnknownName("script", name, current().names("scripts"))
    given = {key: value for key, value in words.items() if key != "name"}
    if hook.owner.found.origin is not Origin.BUILT_IN:
        return lent_script(hook, given)
    return read_object(current().load(hook), given, f"the script {name}")


def script_object(script: Script) -> dict[str, Any]:
    """The same back."""
    said = script.said() if isinstance(script, LentScript) else as_object(script)
    return {"name": script.name, **said}


def _check(request: TextToImage, settings: Settings) -> None:
    validate(request)
    check_request_names(request, settings)
