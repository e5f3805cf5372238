"""What was chosen for good, laid under what a job says itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hayate.server.preferences import Chosen

WITH_SETTINGS = ("generate", "upscale", "load")
"""The kinds of jobs that take settings."""


def with_chosen(kind: str, body: Mapping[str, Any], chosen: Chosen) -> dict[str, Any]:
    """The body with the chosen settings, and for a picture the chosen model, where it has none of its own.

    What has not the form of a body is left as it is: whoever reads it strictly says so.
    """
    made = dict(body)
    own = body.get("settings", {})
    if kind in WITH_SETTINGS and chosen.settings and isinstance(own, Mapping):
        made["settings"] = {**chosen.settings, **own}
    request = body.get("request")
    if kind == "generate" and isinstance(request, Mapping):
        made["request"] = _with_model(request, chosen)
    return made


def _with_model(request: Mapping[str, Any], chosen: Chosen) -> dict[str, Any]:
    """A VAE was chosen for the chosen model; it does not go with another one."""
    if request.get("model") is not None or chosen.model is None:
        return dict(request)
    vae = {"vae": chosen.vae} if chosen.vae is not None and request.get("vae") is None else {}
    return {**request, "model": chosen.model, **vae}
