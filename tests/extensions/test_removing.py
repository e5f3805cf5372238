"""Extensions are removed with what only they needed: with pip, in an environment of the test's."""

from __future__ import annotations

from pathlib import Path

import pytest

from hayate.errors import UnknownName, UsageError
from hayate.extensions.environment import Environment
from hayate.extensions.installing import Installer
from hayate.extensions.removing import Remover
from hayate.extensions.state import StateFile
from tests.extensions.folders import write_extension
from tests.extensions.wheels import make_environment, write_wheel


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    index = tmp_path / "index"
    for name, requires in {
        "pure": ["deeper"],
        "deeper": ["torch"],
        "shared": ["below"],
        "below": [],
        "torch": [],
    }.items():
        write_wheel(index, name, "1.0", requires=requires)
    write_wheel(index, "pure", "2.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return make_environment(tmp_path / "venv", [])


@pytest.fixture
def state(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path / "data")


@pytest.fixture
def installer(tmp_path: Path, state: StateFile, environment: Environment) -> Installer:
    return Installer(tmp_path / "extensions", state, environment)


@pytest.fixture
def remover(tmp_path: Path, state: StateFile, environment: Environment) -> Remover:
    return Remover(tmp_path / "extensions", state, environment)


def installed(tmp_path: Path, installer: Installer, name: str, *requires: str) -> None:
    place = write_extension(tmp_path / "from", name, "act = 1", {"prompts": {"it": "act"}})
    manifest = place / "extension.toml"
    manifest.write_text(manifest.read_text().replace("\n\n", f"\nrequires = {list(requires)!r}\n\n", 1))
    installer.install(installer.plan(place))


def test_what_only_it_needed_goes_with_it_but_never_torch(
    tmp_path: Path, installer: Installer, remover: Remover, environment: Environment, state: StateFile
) -> None:
    installed(tmp_path, installer, "modest", "pure==1.0")
    assert set(environment.packages()) == {"pure", "deeper", "torch"}
    planned = remover.plan("modest")
    assert (set(planned.packages), planned.kept) == ({"pure==1.0", "deeper==1.0"}, {"torch==1.0": "Hayate pins it"})
    assert set(environment.packages()) == {"pure", "deeper", "torch"}
    remover.remove(planned)
    assert set(environment.packages()) == {"torch"}
    assert not (tmp_path / "extensions" / "modest").exists()
    assert state.read().installed == {}


def test_what_another_one_needs_stays_until_that_goes_too(
    tmp_path: Path, installer: Installer, remover: Remover, environment: Environment, state: StateFile
) -> None:
    installed(tmp_path, installer, "first", "shared")
    installed(tmp_path, installer, "second", "shared")
    assert state.read().installed["second"].packages == ()
    planned = remover.plan("first")
    assert planned.packages == ()
    assert planned.kept == {"shared==1.0": "the extension second needs it", "below==1.0": "shared needs it"}
    remover.remove(planned)
    assert set(environment.packages()) == {"shared", "below"}
    remover.remove(remover.plan("second"))
    assert set(environment.packages()) == set()


def test_what_another_package_needs_or_somebody_has_changed_stays(
    tmp_path: Path, installer: Installer, remover: Remover, environment: Environment
) -> None:
    installed(tmp_path, installer, "mine", "pure==1.0", "below")
    environment.install([], [write_wheel(tmp_path, "by-hand", "1.0", requires=["below"])])
    environment.install([], [tmp_path / "index" / "pure-2.0-py3-none-any.whl"])
    planned = remover.plan("mine")
    assert planned.kept.items() >= {"pure==1.0": "it is 2.0 by now", "below==1.0": "by-hand needs it"}.items()
    remover.remove(planned)
    assert {"pure", "below", "by-hand"} <= environment.packages().keys()
    assert "deeper" not in environment.packages()  # the newer one needs it no more


def test_packages_can_be_kept(tmp_path: Path, installer: Installer, remover: Remover, environment: Environment) -> None:
    installed(tmp_path, installer, "mine", "below")
    planned = remover.plan("mine", keeps_packages=True)
    assert (planned.packages, planned.kept) == ((), {"below==1.0": "asked for"})
    remover.remove(planned)
    assert set(environment.packages()) == {"below"}


ENTRY = "[hayate.extensions]\nfrom-wheel = from_wheel\n"
MANIFEST = 'name = "from-wheel"\nversion = "1.0"\nsummary = "s"\n[hooks.prompts]\n"it" = "work:act"\n'


def test_a_wheel_goes_with_what_only_it_needed(
    tmp_path: Path, installer: Installer, remover: Remover, environment: Environment
) -> None:
    files = {"from_wheel/extension.toml": MANIFEST, "from_wheel/work.py": "act = 1\n"}
    wheel = write_wheel(tmp_path, "from-wheel", "1.0", files=files, entry_points=ENTRY, requires=["shared"])
    installer.install(installer.plan(wheel))
    assert set(environment.packages()) == {"from-wheel", "shared", "below"}
    planned = remover.plan("from-wheel")
    assert (planned.distribution, set(planned.packages)) == ("from-wheel", {"shared==1.0", "below==1.0"})
    remover.remove(planned)
    assert set(environment.packages()) == set()


def test_packages_that_are_gone_already_are_no_obstacle(
    tmp_path: Path, installer: Installer, remover: Remover, environment: Environment, state: StateFile
) -> None:
    installed(tmp_path, installer, "mine", "shared")
    environment.remove("shared")
    remover.remove(remover.plan("mine"))
    assert set(environment.packages()) == set()
    assert state.read().installed == {}


def test_what_others_have_put_there_is_not_removed(tmp_path: Path, remover: Remover) -> None:
    write_extension(tmp_path / "extensions", "by-hand")
    for name in ("by-hand", "loopback"):
        with pytest.raises(UsageError, match="was not put there by"):
            remover.plan(name)
    with pytest.raises(UnknownName):
        remover.plan("nothing")
    assert (tmp_path / "extensions" / "by-hand").is_dir()
