"""/v1/extensions: which there are, what they take, and whether they act."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from hayate.extensions.current import current
from hayate.extensions.listing import Row, rows_of
from hayate.extensions.switching import switch
from hayate.server.v1.doors import TheSettings
from hayate.server.v1.jobs import REFUSED

router = APIRouter(prefix="/v1/extensions", tags=["extensions"])


class ExtensionView(BaseModel):
    """An extension."""

    name: str
    version: str
    summary: str
    origin: str = Field(description="built in, folder, package or for A1111")
    state: Literal["on", "off", "unusable"]
    problem: str = Field(description="why it can't be used, or what failed when it was last in use")
    hooks: list[str] = Field(description="what it adds, as kind: name")
    import_s: float
    hook_s: float = Field(description="seconds in its hooks, when it was last in use")
    calls: int
    last_at_s: float | None = Field(description="when that was, in seconds since 1970")
    source: str = Field(description="where it was installed from")
    requires: list[str] = Field(description="packages, as pip reads them")


class SwitchBody(BaseModel):
    """What is to become of an extension."""

    model_config = ConfigDict(extra="forbid")

    is_on: bool


@router.get("")
def extensions() -> list[ExtensionView]:
    """Every extension; nothing is imported for that."""
    session = current()
    session.refresh()
    return [_view(row) for row in rows_of(session)[0]]


@router.patch("/{name}", responses={**REFUSED})
def switch_extension(name: str, asked: SwitchBody, settings: TheSettings) -> ExtensionView:
    """Lets an extension act or not, from the next job on."""
    switch(settings, name, is_on=asked.is_on)
    return next(each for each in extensions() if each.name == name)


def _view(row: Row) -> ExtensionView:
    return ExtensionView(**asdict(row))
