"""Scripts of extensions as A1111's callers know scripts: a name in lower case, and positional arguments."""

from __future__ import annotations

from functools import partial

from hayate.extensions.control import Control
from hayate.extensions.current import current
from hayate.extensions.discovery import Origin
from hayate.extensions.standing import Hook
from hayate.request import TextToImage
from hayate.server.a1111.names import Names
from hayate.server.a1111.replies import ScriptArgument
from hayate.server.a1111.script_arguments import Arguments, Planned, ScriptInfo, fields_of


def lent_scripts() -> tuple[ScriptInfo, ...]:
    """Those of the extensions that act, by what their manifests say: nothing is imported for a list."""
    hooks = current().hooks("scripts")
    return tuple(_info(hook) for hook in hooks if hook.owner.found.origin is not Origin.BUILT_IN)


def _info(hook: Hook) -> ScriptInfo:
    return ScriptInfo(
        name=hook.name.casefold(),
        make=partial(_planned, hook),
        arguments=tuple(map(_argument, hook.controls)),
        is_txt2img=not hook.needs_picture,
    )


def _argument(control: Control) -> ScriptArgument:
    return ScriptArgument(
        label=control.text(),
        value=control.default,
        minimum=control.low,
        maximum=control.high,
        step=control.step,
        choices=list(control.choices) or None,
    )


def _planned(hook: Hook, arguments: Arguments, request: TextToImage, names: Names) -> Planned:
    """The job checks the values, as it does for every other caller."""
    del names
    fields = fields_of(arguments.values, [control.key for control in hook.controls], hook.name)
    return Planned(request=request, body={**fields, "name": hook.name})
