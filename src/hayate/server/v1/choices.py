"""/v1/settings and /v1/plan: what is set, who may set it, and what would compute a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from hayate.errors import UsageError
from hayate.server.v1.doors import TheDesk, ThePreferences
from hayate.server.v1.jobs import REFUSED, check_json
from hayate.settings import SETTINGS

router = APIRouter(prefix="/v1", tags=["settings"])
Value = str | int | float | None


class SettingView(BaseModel):
    """A setting, its value and what may be one."""

    key: str
    kind: Literal["text", "path", "integer", "number"]
    value: Value
    default: Value = Field(description="null follows from the model or the machine")
    unit: str
    low: float | None
    high: float | None
    choices: list[str]
    doc: str
    is_writable: bool = Field(description="others are set where the server is started")
    is_chosen: bool = Field(description="whether it was set here")


class PlanBody(BaseModel):
    """For what a plan is wanted; all of it may be left out."""

    model_config = ConfigDict(extra="forbid")

    request: dict[str, Any] = Field(
        default_factory=dict, description="as in a generate job; the prompt may be left out"
    )
    asked: dict[str, Any] = Field(default_factory=dict, description="how to compute, as in a generate job")
    settings: dict[str, Value] = Field(default_factory=dict, description="settings of this request alone")


@router.get("/settings")
def settings(preferences: ThePreferences) -> list[SettingView]:
    """Every setting, with what was chosen here over the settings file."""
    now, chosen = preferences.settings(), preferences.chosen.settings
    return [
        SettingView(
            key=each.key,
            kind=each.kind,
            value=_shown(getattr(now, each.key)),
            default=each.default,
            unit=each.unit,
            low=each.low,
            high=each.high,
            choices=list(each.choices),
            doc=each.doc,
            is_writable=not each.is_fixed,
            is_chosen=each.key in chosen,
        )
        for each in SETTINGS
    ]


@router.patch("/settings", responses=REFUSED)
def change(changes: dict[str, Value], preferences: ThePreferences) -> list[SettingView]:
    """Sets some settings for good; null takes a choice back. Either all of it is set, or nothing."""
    check_json(changes)
    for each in SETTINGS:
        if each.key in changes and each.is_fixed:
            raise UsageError(f"{each.key} is not set from outside", hint="write it into the settings file")
    preferences.change(settings=changes)
    return settings(preferences)


@router.get("/plan", responses=REFUSED)
async def plan(desk: TheDesk, preferences: ThePreferences, model: str | None = None) -> dict[str, Any]:
    """What would compute a picture of a model, and why."""
    request = {} if model is None else {"model": model}
    return await plan_of(PlanBody(request=request), desk, preferences)


@router.post("/plan", responses=REFUSED)
async def plan_of(body: PlanBody, desk: TheDesk, preferences: ThePreferences) -> dict[str, Any]:
    """What would compute a request, and why; nothing is computed."""
    check_json(body.model_dump())
    changes = {**preferences.chosen.settings, **body.settings}
    return dict(await desk.ask("plan", request=body.request, asked=body.asked, changes=changes))


def _shown(value: Any) -> Value:
    return str(value) if isinstance(value, Path) else value
