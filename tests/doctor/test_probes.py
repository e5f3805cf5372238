"""Probes read what systems really answer, and say so where they get no answer."""

from __future__ import annotations

import json
import os
import pickle
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hayate.doctor.facts import ModelFile, Package, Python, System
from hayate.doctor.gather import gather_facts
from hayate.doctor.probes import cards, folders, models, packages, surroundings, system
from hayate.doctor.probes.ask import Unanswered, ask
from hayate.doctor.sheet import as_json
from hayate.flags import take_flags
from hayate.settings import Settings, load_settings
from tests.doctor.machines import machine, said

MIB = 2**20
ON_POSIX = pytest.mark.skipif(os.name == "nt", reason="a program of this test is a shell script")

DESKTOP = (
    "GPU-1, NVIDIA GeForce RTX 4090, 8.9, 24564, 1890, 560.94, P8, 315.00, 450.00, 600.00, 210, 3120, 1, 4, 16, 16, "
    "Enabled, 0x0000000000000001"
)
LAPTOP = (
    "GPU-2, NVIDIA GeForce RTX 3060 Laptop GPU, 8.6, 6144, 1270, 566.36, P0, [N/A], [N/A], [N/A], 1402, 2100, 4, 4, 8, "
    "16, Disabled, 0x0000000000000060"
)
SLICE = (
    "GPU-3, NVIDIA H200, 9.0, [N/A], [N/A], 570.124.06, P0, 700.00, 700.00, 700.00, 345, 1980, 5, 5, 16, 16, [N/A], "
    "[N/A]"
)
PROCESSES = (
    "GPU-1, 4242, C:\\Program Files\\game\\game.exe, [N/A]\n"
    "GPU-1, 4243, /home/somebody/venv/bin/python, 5120\n"
    f"GPU-1, {os.getpid()}, /usr/bin/python, 900\n"
)
BANNER = "| NVIDIA-SMI 560.94      Driver Version: 560.94       CUDA Version: 12.6     |"


def settings_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for key in ("models_dir", "vae_dir", "lora_dir", "embeddings_dir", "outputs_dir", "cache_dir", "data_dir"):
        monkeypatch.setenv(f"HAYATE_{key.upper()}", str(folder / key))
    return load_settings()


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_an_idle_desktop_card() -> None:
    (card,) = cards.parse(DESKTOP, PROCESSES, BANNER, own=[os.getpid()])
    assert (card.name, card.capability, card.driver, card.driver_cuda) == (
        "NVIDIA GeForce RTX 4090",
        (8, 9),
        "560.94",
        "12.6",
    )
    assert (card.memory_bytes, card.used_bytes) == (24564 * MIB, 990 * MIB)  # without what this process holds
    assert (card.power_limit_w, card.power_default_w, card.pcie_lanes, card.has_display) == (315.0, 450.0, 16, True)
    assert card.slowdowns == ()  # idling is no slowdown
    assert [(each.name, each.used_bytes) for each in card.holders] == [("game.exe", None), ("python", 5120 * MIB)]


def test_what_hayates_own_processes_hold_is_not_taken_by_others() -> None:
    (card,) = cards.parse(DESKTOP, "GPU-1, 7, python, 1890\nGPU-2, 8, python, 300", own=[7, 8])
    assert (card.used_bytes, card.holders) == (0, ())
    (card,) = cards.parse(DESKTOP, "GPU-1, 7, python.exe, [N/A]", own=[7])
    assert card.used_bytes is None  # Windows doesn't say which part of it is ours
    assert said("held memory", machine(cards=(card,))) is None


def test_what_a_card_does_not_have_is_unknown() -> None:
    laptop, part = cards.parse(f"{LAPTOP}\n{SLICE}\n")
    assert (laptop.power_limit_w, laptop.has_display) == (None, False)
    assert laptop.slowdowns == ("heat", "heat (hardware)")
    assert (part.memory_bytes, part.has_display, part.slowdowns) == (None, None, ())
    assert part.capability == (9, 0)


def test_no_cards_are_no_rows() -> None:
    assert cards.parse("\n") == ()


@ON_POSIX
def test_a_driver_that_fails_is_said_and_the_rest_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_in(tmp_path, monkeypatch)
    program(tmp_path / "nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    facts = gather_facts()
    assert facts.cards == ()
    assert any("version mismatch" in line for line in facts.unknown)
    assert facts.processor.threads


@ON_POSIX
def test_a_driver_that_hangs_is_left(tmp_path: Path) -> None:
    program(tmp_path / "nvidia-smi", "exec sleep 30")
    with pytest.raises(Unanswered, match="did not answer within"):
        ask([str(tmp_path / "nvidia-smi")], 0.2)


@pytest.mark.parametrize("command", [["no-such-program-anywhere"], [sys.executable, "-c", "import sys; sys.exit(3)"]])
def test_a_program_that_is_missing_or_fails_is_named(command: list[str]) -> None:
    with pytest.raises(Unanswered, match=Path(command[0]).name):
        ask(command)


@ON_POSIX
def test_a_card_is_found_by_the_program_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"""case "$1" in
  --query-gpu=*) echo '{DESKTOP}';;
  --query-compute-apps=*) exit 1;;
  *) echo '{BANNER}';;
esac"""
    program(tmp_path / "nvidia-smi", text)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (card,) = [each for each in cards.cards(system.system()) if each.vendor == "nvidia"]
    assert card.name == "NVIDIA GeForce RTX 4090"
    assert card.holders == ()  # not known, which is no fault


@ON_POSIX
def test_a_driver_that_does_not_know_a_column_is_asked_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = DESKTOP.rpartition(", ")[0]
    text = f"""case "$1" in
  *clocks_throttle*) echo 'Field "clocks_throttle_reasons.active" is not a valid field to query.'; exit 2;;
  --query-gpu=*) echo '{known}';;
  *) exit 1;;
esac"""
    program(tmp_path / "nvidia-smi", text)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (card,) = [each for each in cards.cards(system.system()) if each.vendor == "nvidia"]
    assert (card.name, card.pcie_lanes, card.slowdowns) == ("NVIDIA GeForce RTX 4090", 16, ())


@ON_POSIX
def test_the_registry_is_read_from_inside_wsl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """case "$4" in
  HwSchMode) printf '\\r\\nHKEY_LOCAL_MACHINE\\\\SYSTEM\\r\\n    HwSchMode    REG_DWORD    0x2\\r\\n\\r\\n';;
  Active*) printf '    ActiveOverlayAcPowerScheme    REG_SZ    961cc777-2547-4f9d-8174-7d86181b8a7a\\r\\n';;
esac"""
    program(tmp_path / "reg.exe", text)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = system.windows(System(os="Linux", release="5.15", machine="x86_64", is_wsl=True))
    assert (found.hags, found.power_mode) == (True, "efficiency")


def test_outside_windows_nothing_is_known_of_it() -> None:
    found = system.windows(System(os="Linux", release="6", machine="x86_64"))
    assert (found.hags, found.power_mode, found.sysmem_fallback) == (None, None, None)


@pytest.mark.parametrize(
    ("number", "version"), [(8500, "8.5.0"), (8907, "8.9.7"), (90100, "9.1.0"), (91002, "9.10.2"), (91900, "9.19.0")]
)
def test_cudnns_number_is_its_version(number: int, version: str) -> None:
    assert packages._cudnn(number) == version


def test_torch_is_read_and_not_imported() -> None:
    code = "from hayate.doctor.probes.packages import python, torch\n"
    code += "import pathlib, sys\nfound = torch(python(), has_nvidia=False, cache_dir=pathlib.Path())\n"
    code += "print(found.version, found.cuda, 'torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [torch.__version__, str(torch.version.cuda), "False"]


def test_what_torch_was_built_for_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(*question: object) -> str:
        asked.append(question)
        return 'a warning\n{"architectures": ["sm_90"], "cudnn": 91900}\n'

    file = tmp_path / "version.py"
    file.write_text("__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n")
    monkeypatch.setattr(packages, "ask", answer)
    first = packages._told_by_torch(file, "2.13.0+cu130", tmp_path)
    assert packages._told_by_torch(file, "2.13.0+cu130", tmp_path) == first
    assert len(asked) == 1
    (tmp_path / "torch-build.json").write_text("damaged")
    assert packages._told_by_torch(file, "2.13.0+cu130", tmp_path) == first
    assert len(asked) == 2


def test_a_second_torch_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert packages._copies()[0] == (tmp_path / "torch").resolve()
    assert len(packages._copies()) == 2


def test_markers_are_settled_for_this_system() -> None:
    other = "win32" if sys.platform != "win32" else "linux"
    lines = [
        f'a>=1; sys_platform == "{sys.platform}"',
        f'b>=1; sys_platform == "{other}"',
        f'c[x]>=1; sys_platform == "{sys.platform}" and extra == "more"',
        f'd; extra == "more" and sys_platform == "{other}"',
        "e",
    ]
    assert list(packages._settled(lines)) == ["a>=1", 'c[x]>=1; extra == "more"', "e"]


def test_the_packages_here_are_all_found() -> None:
    found = packages.python()
    names = {each.name for each in found.packages}
    assert {"torch", "numpy", "pytest", "safetensors"} <= names
    constraints = (Path(__file__).parents[2] / "constraints.txt").read_text()
    assert f"\ntorch=={found.pins['torch']}\n" in constraints
    assert "colorama" in found.pins or sys.platform != "win32"
    assert all(isinstance(each, Package) for each in found.packages)
    assert next(each for each in found.packages if each.name == "numpy").size_bytes > 10**6  # type: ignore[operator]


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /dev/shm rw shared:2 - tmpfs tmpfs rw
40 22 0:40 / /mnt/c rw,noatime - 9p C:\\134 rw,dirsync
41 22 0:41 / /mnt/with\\040space rw - nfs4 host:/share rw
42 22 259:1 / /fast rw - ext4 /dev/nvme0n1p1 rw
"""


@pytest.mark.parametrize(
    ("path", "filesystem", "disk"),
    [
        ("/home/x", "ext4", "virtual"),
        ("/dev/shm/models", "tmpfs", "memory"),
        ("/mnt/c/models", "9p", "virtual"),
        ("/mnt/with space/models", "nfs4", "network"),
        ("/fast/models", "ext4", "nvme"),
        ("/faster", "ext4", "virtual"),
    ],
)
@ON_POSIX
def test_a_folder_is_on_the_mount_that_is_nearest(path: str, filesystem: str, disk: str) -> None:
    mount = folders._mount_of(Path(path), folders._mounts(MOUNTS))
    assert mount is not None
    assert mount.filesystem == filesystem
    assert folders._kind(mount, System(os="Linux", release="6", machine="x86_64")) == disk


def test_a_folder_that_is_not_there_has_the_disk_of_the_one_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path, monkeypatch)
    found = folders.folders(settings, system.system(), None)
    assert {each.role for each in found} == {"models", "outputs", "cache", "data"}
    assert not any(each.is_there for each in found)
    assert all(each.free_bytes and each.is_writable for each in found)


def test_a_small_file_tells_nothing_of_a_disk(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 1000)
    assert folders.time_read(path) is None
    assert folders.time_read(tmp_path / "none") is None


def test_what_was_just_written_is_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(20 * MIB))
    found = folders.time_read(path)
    assert found is not None
    assert found.bytes_per_s > 0
    assert found.was_cached in (True, None)


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Settings, dict[str, ModelFile]]:
    """A folder of models of every sort, and what the probe says of each."""
    settings = settings_in(tmp_path, monkeypatch)
    folder = settings.models_dir
    folder.mkdir()
    weights = {"model.diffusion_model.a": torch.ones(300), "model_ema.diffusion_modela": torch.ones(300)}
    save_file(weights, folder / "fp32.safetensors")
    save_file(weights, folder / "copy.safetensors", metadata={"title": "a copy"})
    halved = {"model.diffusion_model.a": torch.ones(300).half()}
    save_file(halved, folder / "fp16.safetensors", metadata={"hayate.safe_types": '{"vae": "fp32"}'})
    torch.save({"state_dict": weights}, folder / "old.ckpt")
    (folder / "evil.ckpt").write_bytes(pickle.dumps(print, protocol=2).replace(b"print", b"eval "))
    (folder / "cut.safetensors").write_bytes((folder / "fp32.safetensors").read_bytes()[:-100])
    (folder / "page.safetensors").write_text("<html>not found</html>")
    (folder / "lfs.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    settings.embeddings_dir.mkdir()
    torch.save({"string_to_param": {"*": torch.ones(2, 768)}}, settings.embeddings_dir / "style.pt")
    found, note = models.models(settings)
    assert note is None
    return settings, {Path(each.path).name: each for each in found}


def test_every_sort_of_file_is_told_apart(zoo: tuple[Settings, dict[str, ModelFile]]) -> None:
    _, found = zoo
    forms = {name: each.form for name, each in found.items()}
    assert forms == {
        "fp32.safetensors": "safetensors",
        "copy.safetensors": "safetensors",
        "fp16.safetensors": "safetensors",
        "old.ckpt": "pickle",
        "evil.ckpt": "pickle",
        "cut.safetensors": "broken",
        "page.safetensors": "broken",
        "lfs.safetensors": "broken",
        "style.pt": "safetensors",  # embeddings are read from pickles, apart: nothing to be advised
    }
    assert found["old.ckpt"].pickle_verdict == "tensors only"
    assert found["evil.ckpt"].pickle_verdict not in ("tensors only", None)
    assert "truncated" in (found["cut.safetensors"].problem or "")
    assert "LFS" in (found["lfs.safetensors"].problem or "")


def test_types_averages_and_needs_come_from_headers(zoo: tuple[Settings, dict[str, ModelFile]]) -> None:
    _, found = zoo
    assert found["fp32.safetensors"].dtype_bytes == {"F32": 2400}
    assert found["fp32.safetensors"].ema_bytes == 1200
    assert found["fp16.safetensors"].dtype_bytes == {"F16": 600}
    assert found["fp16.safetensors"].safe_types == {"vae": "fp32"}


def test_only_copies_have_the_same_mark(zoo: tuple[Settings, dict[str, ModelFile]]) -> None:
    _, found = zoo
    marks = {name: each.tensors_mark for name, each in found.items() if each.tensors_mark}
    assert set(marks) == {"fp32.safetensors", "copy.safetensors"}
    assert len(set(marks.values())) == 1


def test_what_was_learnt_of_a_file_counts_until_it_is_replaced(zoo: tuple[Settings, dict[str, ModelFile]]) -> None:
    settings, _ = zoo
    path = settings.models_dir / "fp32.safetensors"
    stamp = [path.stat().st_size, path.stat().st_mtime_ns]
    settings.cache_dir.mkdir(exist_ok=True)
    entries = {str(path.resolve()): {"stamp": stamp, "types": {"vae": "bf16"}}}
    (settings.cache_dir / "safe-types.json").write_text(json.dumps(entries))

    def learnt() -> dict[str, str]:
        return {Path(each.path).name: dict(each.safe_types) for each in models.models(settings)[0]}["fp32.safetensors"]  # type: ignore[return-value]

    assert learnt() == {"vae": "bf16"}
    os.utime(path, ns=(0, 0))
    assert learnt() == {}


def test_no_time_is_said(zoo: tuple[Settings, dict[str, ModelFile]]) -> None:
    settings, _ = zoo
    found, note = models.models(settings, limit_s=-1.0)
    assert found == ()
    assert note is not None
    assert "of 9 model files 0" in note


def test_a_taken_port_is_seen_with_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:  # which may be bound again at once, as servers may
        number = taken.getsockname()[1]
        port = surroundings._port(number)
    assert not port.is_free
    assert port.holder is None or "python" in port.holder.lower() or "pytest" in port.holder.lower()
    assert surroundings._port(number).is_free


def test_wishes_are_what_differs_from_the_defaults_without_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_in(tmp_path, monkeypatch)
    monkeypatch.setenv("HAYATE_DTYPE", "fp32")
    monkeypatch.setenv("HAYATE_THREADS", "3")
    flags, _ = take_flags(["--medvram", "--precision", "full"], ())
    settings, problem = surroundings.settings_here()
    found = surroundings.wishes(settings, flags, problem)
    assert found.settings == {"dtype": "fp32", "threads": "3"}
    assert found.flags == ("--medvram", "--precision", "full")
    assert found.threads == 3


def test_refused_settings_become_a_fact_and_the_defaults_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("steps = 20\nstepz = 3\n")
    monkeypatch.setenv("HAYATE_CONFIG", str(file))
    settings, problem = surroundings.settings_here()
    assert settings.steps == 20
    assert problem is not None
    assert "stepz" in problem


def test_a_sheet_of_this_machine_names_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "somebody"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    settings = settings_in(home, monkeypatch)
    settings.models_dir.mkdir(parents=True)
    save_file({"a": torch.ones(3)}, settings.models_dir / "mine.safetensors")
    sheet = as_json(gather_facts())
    assert "somebody" not in json.dumps(sheet)
    assert sheet["models"][0]["path"] == "~/models_dir/mine.safetensors"


def test_the_interpreter_is_this_one() -> None:
    found = packages.python()
    assert isinstance(found, Python)
    assert found.version == ".".join(map(str, sys.version_info[:3]))
