"""What a control is: declared once, rendered by one macro, read back by one piece of JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "prompt", "number", "slider", "choice", "truth", "combo", "switch", "many", "seed"]
"""One line of text, a prompt, a number, a number with a slider, one of a list, yes or no or neither, a text with
suggestions, yes or no, several of a list, and a seed with its buttons."""
Value = str | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One field of a form."""

    key: str
    """Where its value goes in the job's body, as a path: `request.hires.scale`. Its label is the string of this name,
    its help the one of `<key>.help`."""
    kind: Kind
    default: Value = None
    """What it shows at first; None is empty, which leaves the choice to the settings or the model."""
    low: float | None = None
    high: float | None = None
    step: float | None = None
    """Of a number; 0 for any."""
    slider_high: float | None = None
    """Where the slider ends, if before `high`: larger numbers are typed."""
    choices: tuple[str, ...] = ()
    """Of a fixed list. Where there is a string `<key>=<value>`, that is shown."""
    source: str = ""
    """Of a list that changes: a row of `choices.SOURCES`."""
    setting: str = ""
    """The setting whose value stands for an empty one; by itself the one that is called as the key ends."""
    empty: str = ""
    """The string that an empty choice or number shows, such as `automatic`; "" where it can't be empty."""
    span: int = 12
    """Its width, in twelfths of the form's."""
    rows: int = 1
    """Of a text: with more than one it may have lines."""
    shown_when: str = ""
    """`key=value` of the control on which this one depends; it is hidden, and not sent, while that differs."""

    @property
    def default_of(self) -> str:
        """The setting that an empty field leaves the choice to, if it does."""
        return (self.setting or self.key.rpartition(".")[2]) if self.empty == "default" else ""

    @property
    def is_numeric(self) -> bool:
        return self.kind in ("number", "slider", "seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Controls that belong together, under a title: the string `group.<id>`."""

    id: str
    controls: tuple[Control, ...]
    look: Literal["plain", "folded", "switched"] = "plain"
    """Without a title, under one that unfolds, or under a switch: switched off, nothing of it is sent."""
    shown_when: str = ""
    """As a control's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """A tab of the page. Its title is the string `tab.<id>`, its template `tabs/<id>.html`, and its script
    `static/tabs/<id>.js`, which exports `mount(root, page)` and is loaded when the tab is first shown."""

    id: str
    groups: tuple[Group, ...] = ()

    def group(self, id_: str) -> Group:
        """The group of that name; templates ask for each by name, so that its place is theirs to choose."""
        return next(each for each in self.groups if each.id == id_)

    def controls(self) -> Iterator[Control]:
        """All of them."""
        for group in self.groups:
            yield from group.controls
