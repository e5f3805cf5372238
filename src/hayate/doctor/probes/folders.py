"""The settings' folders and the disks below them; of the models' disk also how fast it is."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from hayate.doctor.facts import DiskKind, Folder, FolderRole, System
from hayate.doctor.probes.ask import homely, read_text
from hayate.settings import Settings

READ_LIMIT_S = 0.3
READ_BYTES = 64 * 2**20
_BLOCK = 4 * 2**20
_SMALLEST_BYTES = 16 * 2**20
"""A smaller file tells nothing of a disk."""
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "fuse.sshfs", "ceph", "fuse.glusterfs", "lustre"}
)
_WINDOWS = frozenset({"9p", "drvfs", "v9fs"})
_PARTITION = re.compile(r"(.*?)p?\d+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A line of Linux' table of mounts."""

    place: str
    filesystem: str
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What reading a part of a file showed."""

    bytes_per_s: float
    was_cached: bool | None


def folders(settings: Settings, about: System, largest: Path | None) -> tuple[Folder, ...]:
    """Every folder that matters; `largest` is the model file whose disk is timed.

    Cost: up to `READ_LIMIT_S`.
    """
    reading = time_read(largest) if largest is not None else None
    roles: dict[FolderRole, Path] = {
        "models": settings.models_dir,
        "outputs": settings.outputs_dir,
        "cache": settings.cache_dir,
        "data": settings.data_dir,
    }
    mounts = _mounts(read_text("/proc/self/mountinfo"))
    return tuple(_folder(role, path, about, mounts, reading) for role, path in roles.items())


def time_read(path: Path) -> Reading | None:
    """How fast a file's middle is read, block by block; None for what is too small or can't be read."""
    try:
        size_bytes = path.stat().st_size
        if size_bytes < _SMALLEST_BYTES:
            return None
        with path.open("rb", buffering=0) as file:
            start = size_bytes // 2 // _BLOCK * _BLOCK
            was_cached = _is_cached(file.fileno(), start)
            file.seek(start)
            started, read_bytes = time.perf_counter(), 0
            while read_bytes < READ_BYTES and time.perf_counter() - started < READ_LIMIT_S:
                block = file.read(_BLOCK)
                if not block:
                    break
                read_bytes += len(block)
            return Reading(bytes_per_s=read_bytes / (time.perf_counter() - started), was_cached=was_cached)
    except OSError:
        return None


def _is_cached(file: int, start: int) -> bool | None:
    """Whether a block is in memory already: only Linux says so, by a read that must not wait."""
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    try:
        return os.preadv(file, [bytearray(4096)], start + _BLOCK, os.RWF_NOWAIT) == 4096
    except BlockingIOError:
        return False
    except OSError:  # a file system that does not know how
        return None


def _folder(role: FolderRole, path: Path, about: System, mounts: list[Mount], reading: Reading | None) -> Folder:
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    mount = _mount_of(there.resolve(), mounts)
    free_bytes = None
    with contextlib.suppress(OSError):
        free_bytes = shutil.disk_usage(there).free
    is_windows = about.is_wsl and mount is not None and mount.filesystem in _WINDOWS
    is_models = role == "models"
    return Folder(
        role=role,
        path=homely(path),
        is_there=path.is_dir(),
        is_writable=os.access(there, os.W_OK),
        filesystem=mount.filesystem if mount else None,
        disk=_kind(mount, about) if mount else None,
        is_windows_mount=is_windows,
        free_bytes=free_bytes,
        read_bytes_per_s=reading.bytes_per_s if reading and is_models else None,
        was_cached=reading.was_cached if reading and is_models else None,
    )


def _mounts(table: str) -> list[Mount]:
    """Linux' mounts: six fields, optional ones up to a hyphen, then type and device."""
    found = []
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if len(fields) > 4 and len(tail) > 1:
            place = fields[4].replace("\\040", " ")
            found.append(Mount(place=place, filesystem=tail[0], device=tail[1]))
    return found


def _mount_of(path: Path, mounts: list[Mount]) -> Mount | None:
    inside = [mount for mount in mounts if path.is_relative_to(mount.place)]
    return max(inside, key=lambda mount: len(mount.place), default=None)


def _kind(mount: Mount, about: System) -> DiskKind | None:
    """What a mount is on. Virtual machines call their disks rotating, whatever is below."""
    if mount.filesystem in _IN_MEMORY:
        return "memory"
    if mount.filesystem in _NETWORK:
        return "network"
    name = Path(os.path.realpath(mount.device)).name
    if about.is_wsl or name.startswith(("vd", "xvd")) or mount.filesystem in _WINDOWS:
        return "virtual"
    if name.startswith("nvme"):
        return "nvme"
    parent = found[1] if (found := _PARTITION.match(name)) else name
    rotates = read_text(f"/sys/class/block/{parent}/queue/rotational")
    rotates = rotates or read_text(f"/sys/class/block/{name}/queue/rotational")
    return {"1": "hdd", "0": "ssd"}.get(rotates) if sys.platform == "linux" else None  # type: ignore[return-value]
