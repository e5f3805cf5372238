"""Python, its packages, and the PyTorch that would be imported; nothing of it is."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import platform
import re
import site
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

import hayate
from hayate.doctor.facts import Package, Python, Torch
from hayate.doctor.probes.ask import ask, homely, read_text

_OWN_MARK = "hayate-venv"
"""The file by which launch.py knows its own environment."""
_GROUP = "hayate."
_TORCH_LIMIT_S = 20.0
_ASK_TORCH = """
import json, torch
flags = torch._C._cuda_getArchFlags() if hasattr(torch._C, '_cuda_getArchFlags') else None
cudnn = torch.backends.cudnn.version()
print(json.dumps({'architectures': (flags or '').split(), 'cudnn': cudnn}))
"""


def python() -> Python:
    """Cost: the metadata of every package, about 1 ms each."""
    found = {}
    for each in distributions():
        with contextlib.suppress(KeyError, TypeError, AttributeError):  # a folder that is only half removed has no name
            package = _package(each)
            found.setdefault(package.name, package)  # the first on the path is the one that is imported
    root = Path(hayate.__file__).parents[2]
    is_own = Path(sys.prefix, _OWN_MARK).exists()
    return Python(
        version=platform.python_version(),
        executable=homely(Path(sys.executable)),
        is_own=is_own,
        launcher=homely(root / "launch.py") if is_own and (root / "launch.py").is_file() else None,
        packages=tuple(sorted(found.values(), key=lambda package: package.name)),
        pins=_pins(root / "constraints.txt"),
    )


def torch(about: Python, *, has_nvidia: bool, cache_dir: Path) -> Torch | None:
    """What is known of the torch that would be imported; None where there is none.

    Raises: Unanswered where it has to be asked itself, which is only beside an NVIDIA card, and fails.
    Cost: two small files; beside an NVIDIA card the import of torch in another process, once for each torch.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    text = read_text(folder / "version.py")
    version, cuda, hip = (_assigned(text, name) for name in ("__version__", "cuda", "hip"))
    told: dict[str, object] = {}
    if has_nvidia and cuda:
        told = _told_by_torch(folder / "version.py", version or "?", cache_dir)
    architectures = told.get("architectures")
    cudnn = told.get("cudnn")
    return Torch(
        version=version or "?",
        cuda=cuda,
        hip=hip,
        architectures=tuple(map(str, architectures)) if isinstance(architectures, list) else None,
        cudnn=_cudnn(cudnn) if isinstance(cudnn, int) else _cudnn_package(about),
        copies=tuple(homely(path) for path in _copies()),
    )


def _package(found: Distribution) -> Package:
    name = canonicalize_name(found.metadata["Name"])
    return Package(
        name=name,
        version=found.version,
        requires=tuple(_settled(found.requires or ())),
        is_plugin=any(point.group.startswith(_GROUP) for point in found.entry_points),
        size_bytes=_size(found),
    )


def _settled(requires: Iterable[str]) -> Iterator[str]:
    """Requirements for this system and Python; of a marker only the extra that it asks for is left."""
    for text in requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        extras = re.findall(r"""extra == ['"]([^'"]+)['"]""", str(marker)) if marker else []
        requirement.marker = None
        if marker is None or (not extras and _holds(marker, "")):
            yield str(requirement)
        for extra in extras:
            if marker is not None and _holds(marker, extra):
                yield f'{requirement}; extra == "{extra}"'


def _holds(marker: object, extra: str) -> bool:
    try:
        return bool(marker.evaluate({"extra": extra}))  # type: ignore[attr-defined]
    except UndefinedEnvironmentName:
        return False


def _size(found: Distribution) -> int | None:
    """What the installer wrote down that it installed."""
    record = found.read_text("RECORD")
    if record is None:
        return None
    sizes = (line.rpartition(",")[2] for line in record.splitlines())
    return sum(int(size) for size in sizes if size.isdigit())


def _pins(file: Path) -> dict[str, str]:
    """The lines of constraints.txt that are for this system."""
    pins = {}
    for line in read_text(file).splitlines():
        with contextlib.suppress(InvalidRequirement):
            requirement = Requirement(line.partition("#")[0].strip())
            if requirement.marker is None or requirement.marker.evaluate():
                pins[canonicalize_name(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return pins


def _assigned(text: str, name: str) -> str | None:
    """The string that a line of torch/version.py gives to a name."""
    found = re.search(rf"^{name}\s*(?::[^=]+)?=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return found[1] if found else None


def _told_by_torch(file: Path, version: str, cache_dir: Path) -> dict[str, object]:
    """What only torch itself knows: what its kernels are for, and its cuDNN; remembered for each torch."""
    key = f"{version} {file.stat().st_mtime_ns} {file}"
    memory = cache_dir / "torch-build.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = json.loads(memory.read_text(encoding="utf-8"))
        if known.get("key") == key:
            return known["told"]
    told = json.loads(ask([sys.executable, "-c", _ASK_TORCH], _TORCH_LIMIT_S).strip().splitlines()[-1])
    with contextlib.suppress(OSError):  # it is asked again next time
        cache_dir.mkdir(parents=True, exist_ok=True)
        memory.write_text(json.dumps({"key": key, "told": told}), encoding="utf-8")
    return told


def _cudnn(number: int) -> str:
    """cuDNN's number as a version: 91002 is 9.10.2, and before version 9 it was 8907 for 8.9.7."""
    thousand = 10_000 if number >= 90_000 else 1_000
    return f"{number // thousand}.{number % thousand // 100}.{number % 100}"


def _cudnn_package(about: Python) -> str | None:
    return next((each.version for each in about.packages if each.name.startswith("nvidia-cudnn-cu")), None)


def _copies() -> list[Path]:
    """Every torch on the import path, and the one that pip's `--user` put beside it."""
    places = [*sys.path, *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    found = {Path(place, "torch").resolve(): None for place in places if Path(place, "torch", "version.py").is_file()}
    return list(found)
