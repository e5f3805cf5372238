"""Extensions are installed once, and never at the price of what is there: with pip, in an environment of the test's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hayate.errors import OutputError, UsageError
from hayate.extensions.discovery import find_extensions
from hayate.extensions.environment import Environment, Package
from hayate.extensions.installing import Installer, read_source
from hayate.extensions.state import StateFile
from tests.extensions.folders import write_extension
from tests.extensions.wheels import make_environment, write_wheel


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What there is to be had: two torches, a package that wants the old one, and one that wants nothing."""
    folder = tmp_path_factory.mktemp("index")
    write_wheel(folder, "torch", "2.13.0")
    write_wheel(folder, "torch", "2.4.0")
    write_wheel(folder, "numpy", "1.26.0")
    write_wheel(folder, "needs-old-torch", "1.0", requires=["torch==2.4.0", "numpy<2"])
    write_wheel(folder, "pure", "3.1", requires=["deeper"])
    write_wheel(folder, "deeper", "0.2", requires=["torch"])
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, index: Path) -> Environment:
    wheels = [index / "torch-2.13.0-py3-none-any.whl"]
    wheels.append(write_wheel(tmp_path_factory.mktemp("more"), "numpy", "2.4.6"))
    return make_environment(tmp_path_factory.mktemp("environment") / "venv", wheels)


@pytest.fixture
def environment(made: Environment, index: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return made


@pytest.fixture
def installer(tmp_path: Path, environment: Environment) -> Installer:
    return Installer(tmp_path / "extensions", StateFile(tmp_path / "data"), environment)


def versions(environment: Environment) -> dict[str, str]:
    return {name: package.version for name, package in environment.packages().items()}


def with_requirements(folder: Path, name: str, *requires: str) -> Path:
    place = write_extension(folder, name, "act = 1", {"prompts": {"it": "act"}})
    manifest = place / "extension.toml"
    manifest.write_text(manifest.read_text().replace("\n\n", f"\nrequires = {list(requires)!r}\n\n", 1))
    return place


def test_one_that_needs_nothing_is_copied_and_acts(tmp_path: Path, installer: Installer) -> None:
    source = write_extension(tmp_path / "from", "mine", "act = 1", {"prompts": {"it": "act"}})
    (source / ".git").mkdir()
    row = installer.install(installer.plan(source))
    assert row.packages == ()
    found = {each.name: each for each in find_extensions(tmp_path / "extensions", path=[])}
    assert found["mine"].is_usable
    assert sorted(path.name for path in (tmp_path / "extensions" / "mine").iterdir()) == ["extension.toml", "work.py"]
    assert [path.name for path in (tmp_path / "extensions").iterdir()] == ["mine"]


@pytest.mark.parametrize("wanted", ["torch<2.5", "needs-old-torch"])
def test_one_that_wants_another_torch_is_refused_and_nothing_is_touched(
    wanted: str, tmp_path: Path, installer: Installer, environment: Environment
) -> None:
    before = versions(environment)
    source = with_requirements(tmp_path / "from", "greedy", wanted)
    with pytest.raises(UsageError, match=r"it would change torch 2\.13\.0 to 2\.4\.0") as caught:
        installer.plan(source)
    assert ("numpy 2.4.6 to 1.26.0" in str(caught.value)) == (wanted == "needs-old-torch")
    assert versions(environment) == before
    assert not (tmp_path / "extensions").exists()
    assert StateFile(tmp_path / "data").read().installed == {}


def test_what_it_needs_is_resolved_then_installed_and_recorded(
    tmp_path: Path, installer: Installer, environment: Environment
) -> None:
    source = with_requirements(tmp_path / "from", "modest", "pure>=3", "torch>=2")
    planned = installer.plan(source)
    assert set(planned.packages) == {Package(name="pure", version="3.1"), Package(name="deeper", version="0.2")}
    assert "pure" not in versions(environment)
    row = installer.install(planned)
    try:
        assert {"pure": "3.1", "deeper": "0.2", "torch": "2.13.0"}.items() <= versions(environment).items()
        assert set(row.packages) == {"pure==3.1", "deeper==0.2"}
        assert StateFile(tmp_path / "data").read().installed["modest"] == row
    finally:
        for name in ("pure", "deeper"):
            environment.remove(name)


def test_what_can_not_be_had_is_one_line(tmp_path: Path, installer: Installer) -> None:
    source = with_requirements(tmp_path / "from", "lost", "a-package-that-is-nowhere")
    with pytest.raises(UsageError, match=r"pip can't get what it needs: .*a-package-that-is-nowhere") as caught:
        installer.plan(source)
    assert "\n" not in str(caught.value)


ENTRY = "[hayate.extensions]\nfrom-wheel = from_wheel\n"
MANIFEST = 'name = "from-wheel"\nversion = "1.0"\nsummary = "s"\n[hooks.prompts]\n"it" = "work:act"\n'


def test_a_wheel_is_installed_by_pip(tmp_path: Path, installer: Installer, environment: Environment) -> None:
    files = {"from_wheel/extension.toml": MANIFEST, "from_wheel/work.py": "act = 1\n"}
    wheel = write_wheel(tmp_path, "from-wheel", "1.0", files=files, entry_points=ENTRY, requires=["torch>=2"])
    installer.install(installer.plan(wheel))
    try:
        assert versions(environment)["from-wheel"] == "1.0"
    finally:
        environment.remove("from-wheel")


def of_a1111(folder: Path) -> Path:
    (folder / "theirs" / "scripts").mkdir(parents=True)
    return folder / "theirs"


def damaged(folder: Path) -> Path:
    (folder / "damaged.whl").write_bytes(b"PK\x03\x04 and no more")
    return folder / "damaged.whl"


OTHER = {"from_wheel/extension.toml": MANIFEST.replace("from-wheel", "other")}
NO_EXTENSIONS = {
    "A1111's": of_a1111,
    "an address": lambda folder: Path("https://example.org/extension.git"),
    "an empty folder": lambda folder: folder,
    "a wheel without an extension": lambda folder: write_wheel(folder, "plain", "1.0"),
    "a wheel without a manifest": lambda folder: write_wheel(folder, "from-wheel", "1.0", entry_points=ENTRY),
    "a wheel of another name": lambda folder: write_wheel(folder, "from-wheel", "1", entry_points=ENTRY, files=OTHER),
    "a damaged wheel": damaged,
}


@pytest.mark.parametrize("make", NO_EXTENSIONS.values(), ids=NO_EXTENSIONS.keys())
def test_what_is_no_extension_is_refused_in_a_line(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(UsageError) as caught:
        read_source(make(tmp_path))
    assert caught.value.hint
    assert str(caught.value).isprintable()


def test_nothing_of_it_runs_when_it_is_installed(tmp_path: Path, installer: Installer) -> None:
    source = write_extension(tmp_path / "from", "loud", "raise SystemExit('it was run')", {"prompts": {"it": "act"}})
    (source / "install.py").write_text("raise SystemExit('it was run')")
    (source / "setup.py").write_text("raise SystemExit('it was run')")
    installer.install(installer.plan(source))


def test_one_that_is_there_is_not_overwritten(tmp_path: Path, installer: Installer) -> None:
    source = write_extension(tmp_path / "from", "mine")
    installer.install(installer.plan(source))
    with pytest.raises(UsageError, match="already"):
        installer.plan(source)
    with pytest.raises(UsageError, match=r"already \(built in\)"):
        installer.plan(write_extension(tmp_path / "other", "loopback"))


def test_a_copy_that_fails_leaves_nothing(
    tmp_path: Path, installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = installer.plan(write_extension(tmp_path / "from", "mine"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OutputError, match="No space left"):
        installer.install(planned)
    assert list((tmp_path / "extensions").iterdir()) == []
    assert StateFile(tmp_path / "data").read().installed == {}


def test_the_own_environment_is_the_default() -> None:
    """Asked and not changed: this is the interpreter that runs the tests."""
    assert "pytest" in Environment().packages()
