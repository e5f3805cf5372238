"""Commands are those by which the user installed: launch.py's in its environment, else pip's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hayate.doctor.diagnose import diagnose
from hayate.doctor.facts import Facts, Package, Processor, Python, System
from hayate.doctor.here import for_here
from launcher.words import OWN_FLAGS
from tests.doctor.machines import TORCH, machine

WINDOWS = System(os="Windows", release="11", machine="AMD64")
OWN = Python(version="3.12", executable="~/hayate/.venv/bin/python", is_own=True, launcher="~/hayate/launch.py")
OTHER = Python(version="3.12", executable="/opt/venv/bin/python")
CPU_TORCH = replace(TORCH, version="2.13.0+cpu", cuda=None, architectures=None)


def command(check: str, facts: Facts) -> str:
    return next(each for each in diagnose(facts) if each.check == check).fix.command


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"python": OWN}, "python3 ~/hayate/launch.py --reinstall-torch --exit"),
        ({"python": OWN, "system": WINDOWS}, "py ~/hayate/launch.py --reinstall-torch --exit"),
        ({"python": replace(OWN, launcher=None)}, "python3 launch.py --reinstall-torch --exit"),
        (
            {"python": replace(OTHER, pins={"torch": "2.13.1"})},
            "/opt/venv/bin/python -m pip install --force-reinstall "
            "--index-url https://download.pytorch.org/whl/cu130 torch==2.13.1",
        ),
    ],
)
def test_torch_comes_by_whoever_installed_it(changes: dict[str, object], said: str) -> None:
    assert command("CPU-only torch", machine(torch=CPU_TORCH, **changes)) == said


def test_the_launcher_takes_the_flags_that_are_given() -> None:
    assert {"--reinstall-torch", "--rebuild-venv", "--exit"} <= set(OWN_FLAGS)


HAYATE = Package(name="hayate", version="1", requires=("torch>=2.10", "numpy>=2", "pillow>=11"))


def test_a_torch_that_is_too_old_is_never_taken_from_pypi() -> None:
    packages = (HAYATE, Package(name="torch", version="1.13.1"), *there("numpy", "pillow"))
    facts = machine(python=replace(OWN, packages=packages), system=WINDOWS)
    assert "--reinstall-torch" in command("unmet requirements", facts)
    facts = machine(python=replace(OTHER, packages=packages), system=WINDOWS)
    assert "--index-url https://download.pytorch.org/whl/cu130 torch==" in command("unmet requirements", facts)
    facts = machine(python=replace(OTHER, packages=packages), cards=(), torch=CPU_TORCH)
    assert command("unmet requirements", facts).endswith("install --force-reinstall torch==2.13.0")


def test_other_packages_come_from_pip_at_their_pins() -> None:
    packages = (HAYATE, Package(name="torch", version="2.13.0"), *there("pillow", version="3"))
    for python in (OWN, OTHER):
        here = replace(python, packages=packages, pins={"numpy": "2.3.1"})
        said = command("unmet requirements", machine(python=here))
        assert said == f'{python.executable} -m pip install "numpy==2.3.1" "pillow>=11"'


def test_a_torch_that_moved_from_its_pin_is_a_new_environment() -> None:
    packages = (HAYATE, Package(name="torch", version="2.12.0"), *there("numpy", "pillow"))
    here = replace(OWN, packages=packages, pins={"torch": "2.13.0", "numpy": "2.3.1"})
    assert command("moved pins", machine(python=here)) == "python3 ~/hayate/launch.py --rebuild-venv --exit"
    here = replace(here, pins={"numpy": "2.3.1"})
    assert command("moved pins", machine(python=here)) == '~/hayate/.venv/bin/python -m pip install "numpy==2.3.1"'


def test_hayate_is_called_so_also_behind_another_program() -> None:
    many = Processor(model="EPYC", cores=64, threads=128, usable_threads=128, numa_nodes=4)
    said = command("NUMA nodes", machine(python=OWN, cards=(), processor=many))
    assert said == "numactl --cpunodebind=0 --membind=0 python3 ~/hayate/launch.py bench quick"


def test_hayate_is_called_as_it_can_be_called() -> None:
    assert command("untuned", machine(profiles=(), python=OWN)) == "python3 ~/hayate/launch.py tune"
    assert command("untuned", machine(profiles=(), python=OTHER)) == "hayate tune"


@pytest.mark.parametrize(
    ("launcher", "home", "said"),
    [
        ("~/hayate/launch.py", "/home/me", "python3 /home/me/hayate/launch.py tune"),
        ("~/my programs/launch.py", "/home/me", 'python3 "/home/me/my programs/launch.py" tune'),
        ("~/hayate/launch.py", "/home/Jo Doe", 'python3 "/home/Jo Doe/hayate/launch.py" tune'),
        ("/opt/hayate/launch.py", "/home/me", "python3 /opt/hayate/launch.py tune"),
    ],
)
def test_a_command_of_this_machine_has_whole_paths(launcher: str, home: str, said: str) -> None:
    found = diagnose(machine(profiles=(), python=replace(OWN, launcher=launcher)))
    (untuned,) = (each for each in for_here(found, Path(home)) if each.check == "untuned")
    assert untuned.fix.command == said


def there(*names: str, version: str = "99") -> tuple[Package, ...]:
    return tuple(Package(name=name, version=version) for name in names)
