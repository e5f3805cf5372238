"""Scripts of extensions: checked by their manifests without being imported, and run behind the extensions' door."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hayate.errors import UnknownName, UsageError
from hayate.extensions.session import Session
from hayate.jobs.bodies import read_body
from hayate.jobs.lent_scripts import MOST_REQUESTS, lent_requests
from hayate.jobs.records import Progress
from hayate.jobs.scripts import read_script
from hayate.jobs.signals import Signals
from hayate.jobs.tasks.catalogue import TASKS
from hayate.jobs.tasks.station import Outcome, Station
from hayate.models.config import Family
from hayate.pipeline.workspace import Workspace
from hayate.request import StartImage, TextToImage
from hayate.runtime.asked import Asked
from hayate.settings import Settings, load_settings
from tests.extensions.folders import session_in, write_extension
from tests.tiny_models import write_tiny

CODE = """
import sys
from dataclasses import dataclass, replace
from hayate.errors import UsageError
print("was imported")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeds:
    count: int = 2
    step: int = 1
    negative: str = ""

    def check(self, request, asked, settings):
        if self.negative == "refused":
            raise UsageError("not with this one", hint="take another one")

    def requests(self, request, asked):
        for number in range(self.count):
            yield replace(request, seed=request.seed + number * self.step), asked


class Base:
    def check(self, request, asked, settings):
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Raises(Base):
    def requests(self, request, asked):
        yield request, asked
        raise ZeroDivisionError("none left")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoPair(Base):
    def requests(self, request, asked):
        return [request]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong(Base):
    def requests(self, request, asked):
        return [(replace(request, steps=-3), asked)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent(Base):
    def requests(self, request, asked):
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Endless(Base):
    def requests(self, request, asked):
        while True:
            yield request, asked


def no_class():
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fieldless(Base):
    def requests(self, request, asked):
        return [(request, asked)]
"""
SCRIPTS = {
    "Many seeds": "Seeds",
    "From a picture": "Fieldless",
    "raises": "Raises",
    "no pair": "NoPair",
    "wrong": "Wrong",
    "silent": "Silent",
    "endless": "Endless",
    "function": "no_class",
    "other fields": "Fieldless",
}
MORE = """
[[controls]]
script = "Many seeds"
key = "count"
kind = "slider"
default = 3
low = 1
high = 2000
step = 1

[[controls]]
script = "Many seeds"
key = "negative"
kind = "text"
default = ""

[[controls]]
script = "other fields"
key = "count"
kind = "switch"
default = false
"""
REQUEST = TextToImage(prompt="a lake", seed=7)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    place = write_extension(tmp_path, "parts", CODE, {"scripts": SCRIPTS}, more=MORE)
    manifest = place / "extension.toml"
    manifest.write_text('needs_picture = ["From a picture"]\n' + manifest.read_text())
    with session_in(tmp_path, tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "models").mkdir()
    names = ("cache", "data", "outputs", "models", "vae", "lora")
    return load_settings({f"{name}_dir": tmp_path / name for name in names}, environment={})


def job(script: dict[str, Any]) -> dict[str, Any]:
    request = {"prompt": "a lake", "seed": 7, "steps": 1, "width_px": 64, "height_px": 64, "model": "tiny"}
    return {"request": request, "script": script}


@pytest.mark.usefixtures("session")
def test_what_a_job_says_comes_back_without_what_is_as_by_default() -> None:
    said = {"name": "many SEEDS", "count": 2, "negative": ""}
    body = read_body("generate", job(said))
    assert body.as_object()["script"] == {"name": "Many seeds", "count": 2}  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"name": "many seed"}, "nearest: Many seeds"),
        ({"name": "Many seeds", "cont": 2}, "nearest: count"),
        ({"name": "Many seeds", "count": 1.5}, "count: 1.5 can't be"),
        ({"name": "Many seeds", "count": 5000}, "count: 5000 can't be"),
        ({"name": "Many seeds", "count": "2"}, "is not a number"),
        ({"name": "Many seeds", "negative": 2}, "is not a text"),
        ({"name": "Many seeds", "step": 2}, "step"),
        ({"name": "raises", "count": 2}, "count"),
    ],
)
def test_a_field_that_its_manifest_does_not_know_is_refused(
    session: Session, said: dict[str, Any], why: str, settings: Settings
) -> None:
    with pytest.raises(UsageError, match=why):
        read_body("generate", job(said)).check(settings, settings.data_dir)
    assert session.timings() == ()


def test_nothing_is_imported_to_check_a_job(session: Session, settings: Settings, tmp_path: Path) -> None:
    write_tiny(settings.models_dir / "tiny.safetensors", Family.SD1)
    read_body("generate", job({"name": "Many seeds"})).check(settings, settings.data_dir)
    assert session.timings() == ()
    assert not (tmp_path / "data" / "extensions" / "parts.log").exists()


@pytest.mark.usefixtures("session")
def test_one_that_needs_a_picture_says_so(settings: Settings) -> None:
    script = read_script({"name": "From a picture"})
    with pytest.raises(UsageError, match="From a picture needs a picture"):
        script.check(REQUEST, Asked(), settings)
    script.check(TextToImage(prompt="a", start=StartImage(path="x.png")), Asked(), settings)


def test_why_one_can_not_be_had_is_said(session: Session) -> None:
    session.standing("parts").problem = "its import failed"
    with pytest.raises(UsageError, match="of the extension parts, which is left out: its import failed"):
        read_script({"name": "raises"})
    session.standing("parts").is_on = False
    with pytest.raises(UsageError, match="of the extension parts, which is switched off"):
        read_script({"name": "Raises"})


@pytest.mark.usefixtures("session")
def test_its_fields_are_its_own_and_the_rest_is_by_default(settings: Settings) -> None:
    made = lent_requests(read_script({"name": "Many seeds", "count": 4}), REQUEST, Asked(), settings)  # pyright: ignore
    assert [request.seed for request, _ in made] == [7, 8, 9, 10]


@pytest.mark.parametrize(
    ("name", "why", "is_left_out"),
    [
        ("raises", "of the extension parts can't be had: .*ZeroDivisionError: none left", True),
        ("no pair", "it gave TextToImage and no pair", True),
        ("function", "it is function and no type", True),
        ("wrong", "-3", False),
        ("silent", "gives 0 requests", False),
        ("endless", f"gives more than {MOST_REQUESTS} requests", False),
        ("other fields", "count", False),
    ],
)
def test_one_that_fails_fails_its_job_in_a_line(
    session: Session, settings: Settings, name: str, why: str, is_left_out: bool
) -> None:
    with pytest.raises(UsageError, match=why):
        lent_requests(read_script({"name": name}), REQUEST, Asked(), settings)  # pyright: ignore
    assert ("parts" in session.problems()) == is_left_out


@pytest.mark.usefixtures("session")
def test_one_may_refuse_in_words_and_stays(settings: Settings) -> None:
    refused = read_script({"name": "Many seeds", "negative": "refused"})
    with pytest.raises(UsageError, match="not with this one"):
        lent_requests(refused, REQUEST, Asked(), settings)  # pyright: ignore
    assert len(lent_requests(read_script({"name": "Many seeds"}), REQUEST, Asked(), settings)) == 3  # pyright: ignore


def generated(settings: Settings, tmp_path: Path, script: dict[str, Any]) -> tuple[Outcome, list[Progress]]:
    told: list[Progress] = []
    signals = Signals()
    signals.begin("job")
    with Workspace(settings) as workspace:
        station = Station(
            job="job",
            settings=settings,
            workspace=workspace,
            signals=signals,
            tell=told.append,
            show=lambda jpeg: None,
            results=tmp_path / "results",
        )
        return TASKS["generate"](read_body("generate", job(script)), station), told


@pytest.mark.usefixtures("session")
def test_a_job_makes_the_pictures_of_all_its_requests(settings: Settings, tmp_path: Path) -> None:
    write_tiny(settings.models_dir / "tiny.safetensors", Family.SD1)
    outcome, told = generated(settings, tmp_path, {"name": "Many seeds", "count": 2})
    assert [picture.seed for picture in outcome.result.pictures] == [7, 8]
    assert told[-1].pictures == 2
    with pytest.raises(UnknownName, match="nearest: Many seeds"):
        generated(settings, tmp_path, {"name": "Many seed"})
