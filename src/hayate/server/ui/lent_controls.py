"""Controls that extensions declare, in the form of the page's own: panels and scripts of both picture tabs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hayate.extensions.control import Control as Declared
from hayate.extensions.discovery import Origin
from hayate.extensions.session import Session
from hayate.extensions.standing import Hook, Standing
from hayate.server.ui.controls import Control, Group, Tab

FROM_PICTURES = "img2img"
PICTURE_TABS = ("txt2img", FROM_PICTURES)


@dataclass(frozen=True, slots=True, kw_only=True)
class LentScriptFields:
    """A script of an extension, with its fields as they stand among those of other scripts."""

    name: str
    controls: tuple[Control, ...]
    needs_picture: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """The panels of extensions, and what they say in one language."""

    groups: tuple[Group, ...] = ()
    strings: tuple[tuple[str, str], ...] = ()
    scripts: tuple[LentScriptFields, ...] = ()
    """Those of extensions."""
    missing: tuple[str, ...] = ()
    """Built-in ones that are off."""

    def tab(self, tab: Tab) -> Tab:
        """A picture tab with the panels at its end, and with the scripts that act; others as they are."""
        if tab.id not in PICTURE_TABS:
            return tab
        lent = [each for each in self.scripts if tab.id == FROM_PICTURES or not each.needs_picture]
        own = (self._with_scripts(group, lent) if group.id == "script" else group for group in tab.groups)
        return replace(tab, groups=(*own, *self.groups))

    def _with_scripts(self, group: Group, lent: Sequence[LentScriptFields]) -> Group:
        name, *fields = group.controls
        own = (each for each in name.choices if each not in self.missing)
        chooser = replace(name, choices=(*own, *(each.name for each in lent)))
        return replace(group, controls=(chooser, *fields, *(control for each in lent for control in each.controls)))

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
        place = f"request.extensions.{each.name}"
        controls = tuple(_control(place, declared) for declared in each.manifest.controls)
        groups.append(Group(id=panel_id(each), look="switched", controls=controls))
        strings[f"group.{panel_id(each)}"] = each.manifest.title
        strings |= _strings(controls, each.manifest.controls, language)
    scripts = []
    for hook in _lent_hooks(session):
        scripts.append(_script(hook))
        strings |= _strings(scripts[-1].controls, hook.controls, language)
    off = (each for each in session.standings if each.found.origin is Origin.BUILT_IN and not each.acts)
    missing = tuple(name for each in off for name in each.manifest.hooks.get("scripts", ()))
    return Lent(groups=tuple(groups), strings=tuple(strings.items()), scripts=tuple(scripts), missing=missing)


def _lent_hooks(session: Session) -> Iterator[Hook]:
    """The scripts that are added to the page's; of several with one name jobs know the first."""
    known: set[str] = set()
    for hook in session.hooks("scripts"):
        if hook.owner.found.origin is not Origin.BUILT_IN and hook.name.casefold() not in known:
            yield hook
        known.add(hook.name.casefold())


def _script(hook: Hook) -> LentScriptFields:
    """Its fields have a place of their own, since other scripts may have fields of the same keys."""
    place = f"script.lent.{hook.owner.name}-{list(hook.owner.manifest.hooks['scripts']).index(hook.name)}"
    shown_when = f"script.name={hook.name}"
    controls = tuple(replace(_control(place, each), shown_when=shown_when) for each in hook.controls)
    return LentScriptFields(name=hook.name, controls=controls, needs_picture=hook.needs_picture)


def _strings(controls: Sequence[Control], declared: Sequence[Declared], language: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for control, each in zip(controls, declared, strict=True):
        found[control.key] = each.text(language)
        found[f"{control.key}.help"] = each.help.get(language) or each.help.get("en", "")
    return found


def panel_id(owner: Standing) -> str:
    """The group of an extension's controls."""
    return f"extension-{owner.name}"


def _control(place: str, declared: Declared) -> Control:
    is_text = declared.kind in ("text", "prompt")
    return Control(
        key=f"{place}.{declared.key}",
        kind="text" if is_text else declared.kind,
        default=declared.default,
        low=declared.low,
        high=declared.high,
        step=declared.step,
        choices=declared.choices,
        span=12 if is_text else 6,
        rows=2 if declared.kind == "prompt" else 1,
    )
