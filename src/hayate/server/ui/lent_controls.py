"""Controls that extensions declare, in the form of the page's own: the panels of both picture tabs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hayate.extensions.control import Control as Declared
from hayate.extensions.discovery import Origin
from hayate.extensions.session import Session
from hayate.extensions.standing import Standing
from hayate.server.ui.controls import Control, Group, Tab

PICTURE_TABS = ("txt2img", "img2img")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """The panels of extensions, and what they say in one language."""

    groups: tuple[Group, ...] = ()
    strings: tuple[tuple[str, str], ...] = ()
    scripts: tuple[str, ...] = ()
    """Those of extensions; they have no fields here, and go as their authors set them."""
    missing: tuple[str, ...] = ()
    """Built-in ones that are off."""

    def tab(self, tab: Tab) -> Tab:
        """A picture tab with the panels at its end, and with the scripts that act; others as they are."""
        if tab.id not in PICTURE_TABS:
            return tab
        own = (self._with_scripts(group) if group.id == "script" else group for group in tab.groups)
        return replace(tab, groups=(*own, *self.groups))

    def _with_scripts(self, group: Group) -> Group:
        name, *fields = group.controls
        own = (each for each in name.choices if each not in self.missing)
        return replace(group, controls=(replace(name, choices=(*own, *self.scripts)), *fields))

    def words(self, own: Mapping[str, str]) -> Mapping[str, str]:
        """All strings."""
        return {**own, **dict(self.strings)}


NOTHING_LENT = Lent()


def lent_controls(session: Session, language: str) -> Lent:
    """A panel for each extension that acts and has controls; switched off, nothing is said to it."""
    groups: list[Group] = []
    strings: dict[str, str] = {}
    for each in session.standings:
        if not each.has_panel:
            continue
        controls = tuple(_control(each, declared) for declared in each.manifest.controls)
        groups.append(Group(id=panel_id(each), look="switched", controls=controls))
        strings[f"group.{panel_id(each)}"] = each.manifest.title
        for control, declared in zip(controls, each.manifest.controls, strict=True):
            strings[control.key] = declared.text(language)
            strings[f"{control.key}.help"] = declared.help.get(language) or declared.help.get("en", "")
    return Lent(groups=tuple(groups), strings=tuple(strings.items()), **_scripts(session))


def _scripts(session: Session) -> dict[str, tuple[str, ...]]:
    """What is added to the page's scripts, and what is off."""
    hooks = session.hooks("scripts")
    off = (each for each in session.standings if each.found.origin is Origin.BUILT_IN and not each.acts)
    return {
        "scripts": tuple(hook.name for hook in hooks if hook.owner.found.origin is not Origin.BUILT_IN),
        "missing": tuple(name for each in off for name in each.manifest.hooks.get("scripts", ())),
    }


def panel_id(owner: Standing) -> str:
    """The group of an extension's controls."""
    return f"extension-{owner.name}"


def _control(owner: Standing, declared: Declared) -> Control:
    is_text = declared.kind in ("text", "prompt")
    return Control(
        key=f"request.extensions.{owner.name}.{declared.key}",
        kind="text" if is_text else declared.kind,
        default=declared.default,
        low=declared.low,
        high=declared.high,
        step=declared.step,
        choices=declared.choices,
        span=12 if is_text else 6,
        rows=2 if declared.kind == "prompt" else 1,
    )
