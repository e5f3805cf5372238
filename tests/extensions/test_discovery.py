"""Extensions are found without being imported, whatever lies in the folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.extensions.discovery import Origin, entry_points_of, find_extensions
from hayate.jobs.scripts import SCRIPTS
from tests.extensions.folders import write_extension


def by_name(folder: Path, path: list[str] | None = None) -> dict[str, object]:
    return {each.name: each for each in find_extensions(folder, path=path or [])}


def test_the_built_in_scripts_are_extensions(tmp_path: Path) -> None:
    found = find_extensions(tmp_path / "none", path=[])
    assert {each.origin for each in found} == {Origin.BUILT_IN}
    hooks = {name: place for each in found for name, place in each.manifest.hooks["scripts"].items()}
    assert hooks == {name: f"{kind.__module__}:{kind.__name__}" for name, kind in SCRIPTS.items()}


def test_a_folder_is_found_and_nothing_of_it_runs(tmp_path: Path) -> None:
    write_extension(tmp_path, "loud", "raise SystemExit('it was run')", {"prompts": {"loud": "x"}})
    code = f"""
import sys
from pathlib import Path
from hayate.extensions.discovery import find_extensions
found = find_extensions(Path({str(tmp_path)!r}))
assert any(each.name == "loud" and each.is_usable for each in found)
print([name for name in sys.modules if "hayate_extensions" in name or name == "work"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("part", ["scripts/face.py", "install.py", "preload.py", "metadata.ini", "javascript/a.js"])
def test_one_for_a1111_is_recognised_and_not_run(tmp_path: Path, part: str) -> None:
    file = tmp_path / "sd-webui-thing" / part
    file.parent.mkdir(parents=True)
    file.write_text("raise SystemExit('it was run')")
    found = by_name(tmp_path)["sd-webui-thing"]
    assert (found.origin, found.is_usable) == (Origin.A1111, False)
    assert "A1111" in found.problem
    assert "not run" in found.problem


def test_a_broken_manifest_is_named_and_harms_no_other(tmp_path: Path) -> None:
    write_extension(tmp_path, "good")
    (write_extension(tmp_path, "bad") / "extension.toml").write_text("name = ")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").write_text("")
    (tmp_path / ".hidden").mkdir()
    found = by_name(tmp_path)
    assert found["good"].is_usable
    assert "is not TOML" in found["bad"].problem
    assert "no extension.toml" in found["empty"].problem
    assert {"a file", ".hidden"}.isdisjoint(found)


def test_a_folder_can_not_pass_for_another(tmp_path: Path) -> None:
    write_extension(tmp_path, "one").rename(tmp_path / "two")
    assert "says the name 'one'" in by_name(tmp_path)["two"].problem


def test_a_built_in_name_is_taken(tmp_path: Path) -> None:
    write_extension(tmp_path, "loopback")
    mine = [each for each in find_extensions(tmp_path, path=[]) if each.name == "loopback"]
    assert [each.origin for each in mine] == [Origin.BUILT_IN, Origin.FOLDER]
    assert "another extension of this name (built in)" in mine[1].problem


def test_a_name_that_plays_with_terminals_is_shown_as_what_it_is(tmp_path: Path) -> None:
    name = "red\x1b[31m\nfolder"
    try:
        (tmp_path / name / "scripts").mkdir(parents=True)
    except OSError:
        pytest.skip("this file system has no such names")
    [found] = [each for each in find_extensions(tmp_path, path=[]) if each.origin is Origin.A1111]
    assert found.name.isprintable()


def test_one_for_another_version_says_so(tmp_path: Path) -> None:
    place = write_extension(tmp_path, "later")
    text = (place / "extension.toml").read_text()
    (place / "extension.toml").write_text(text.replace("summary", 'hayate = ">=99"\nsummary'))
    assert "it is for Hayate >=99" in by_name(tmp_path)["later"].problem


def installed(site: Path, name: str, package: str, row: str) -> None:
    (site / f"{package}-1.0.dist-info").mkdir(parents=True)
    (site / f"{package}-1.0.dist-info" / "entry_points.txt").write_text(f"[console_scripts]\na = b:c\n\n{row}\n")
    (site / package).mkdir()
    (site / package / "__init__.py").write_text("raise SystemExit('it was run')")
    (site / package / "extension.toml").write_text(f'name = "{name}"\nversion = "1"\nsummary = "s"\n')


def test_a_package_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, "from-pip", "a_package_for_hayate", "[hayate.extensions]\nfrom-pip = a_package_for_hayate")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = by_name(tmp_path / "none", [str(tmp_path)])["from-pip"]
    assert (found.origin, found.package, found.is_usable) == (Origin.PACKAGE, "a_package_for_hayate", True)
    assert "a_package_for_hayate" not in sys.modules


@pytest.mark.parametrize("module", ["a_package_that_is_not_here", "os.path", "../../etc", "a b", ""])
def test_an_entry_point_that_leads_nowhere_is_named(tmp_path: Path, module: str) -> None:
    installed(tmp_path, "x", "x_package", f"[hayate.extensions]\nastray = {module}")
    found = by_name(tmp_path / "none", [str(tmp_path)])["astray"]
    assert "no package" in found.problem


@given(st.text())
def test_any_text_is_read_as_entry_points(text: str) -> None:
    list(entry_points_of(f"[hayate.extensions]\n{text}"))


def test_rows_of_other_groups_are_not_ours() -> None:
    text = "[other]\na = b\n[hayate.extensions]\nmine = pkg\n# no = comment\n[more]\nc = d"
    assert list(entry_points_of(text)) == [("mine", "pkg")]
