"""What was found to win on this machine, kept for the plans to come; the server lists it without loading torch."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hayate.errors import OutputError, UnknownName
from hayate.extensions.current import current
from hayate.models.config import ModelConfig
from hayate.runtime.asked import Asked, asked_of

if TYPE_CHECKING:
    from hayate.runtime.device import Device

FOLDER = "profiles"
MAX_BYTES = 2**20
SIZES_PX = (256, 512, 768, 1024, 1536, 2048, 4096)
"""The classes of sizes: the side of a square that holds as many pixels, rounded up to one of these."""
OF_EXTENSIONS = "extension "
"""How the versions of extensions begin, among those that make a profile stale."""
_LEFT_OPEN = ("notes", "promise")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What a profile is for; there is one file for each."""

    device: str
    architecture: str
    size_px: int
    promise: str

    @property
    def file_name(self) -> str:
        words = (self.device, self.architecture, f"{self.size_px}px", self.promise)
        return "_".join(re.sub(r"[^A-Za-z0-9]+", "-", word).strip("-") for word in words) + ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The settings that won, and what they won under."""

    slot: Slot
    asked: Asked
    versions: Mapping[str, str]
    """What makes it stale when it changes."""
    at: str
    summary: Mapping[str, Any] = field(default_factory=dict)
    """What was measured, for people: `ratio` against the default plan, `it_per_s`, `psnr_db` …"""

    @property
    def title(self) -> str:
        """What won and by how much, in a few words."""
        words = " ".join(f"{name} {value}" for name, value in said(self.asked).items() if name != "promise")
        ratio = self.summary.get("ratio")
        if not words:
            return "the default plan won"
        gain = f", {ratio:.2f}× as fast as the default plan" if isinstance(ratio, int | float) else ""
        return f"{words}{gain}"

    def staleness(self, versions: Mapping[str, str]) -> str | None:
        """What has changed since it was tuned, or None."""
        changed = [name for name, now in versions.items() if self.versions.get(name) != now]
        return ", ".join(f"{name} {self.versions.get(name, '?')} is now {versions[name]}" for name in changed) or None


def slot_for(device: Device, config: ModelConfig, size_px: tuple[int, int], promise: str) -> Slot:
    """Where the profile for pictures of this width and height belongs."""
    side = (size_px[0] * size_px[1]) ** 0.5
    nearest = next((each for each in SIZES_PX if side <= each), SIZES_PX[-1])
    unet = config.unet
    architecture = f"{config.family.value}-{unet.channels}-{'-'.join(map(str, unet.transformer_depths))}"
    title = "CPU" if device.torch.type == "cpu" else device.title
    return Slot(device=title, architecture=architecture, size_px=nearest, promise=promise)


def versions_of(device: Device, asked: Asked) -> dict[str, str]:
    """What the figures of what was asked for depend on beside the card; a change makes a profile stale."""
    import torch

    found = {"torch": str(torch.__version__), **extension_versions(asked)}
    if device.torch.type == "cpu":
        return {**found, "threads": str(torch.get_num_threads())}
    if device.torch.type == "cuda" and torch.version.cuda:
        driver = torch._C._cuda_getDriverVersion()  # pyright: ignore[reportAttributeAccessIssue]
        found |= {"driver": str(driver), "CUDA": torch.version.cuda}
    return found


def extension_versions(asked: Asked) -> dict[str, str]:
    """The version of the extension whose attention was asked for, as a profile has it; nothing for our own."""
    hook = None if asked.attention is None else current().find("attention", asked.attention)
    return {} if hook is None else {f"{OF_EXTENSIONS}{hook.owner.name}": hook.owner.manifest.version}


def save_profile(profile: Profile, data_dir: Path) -> Path:
    """Replaces the slot's file as a whole: a reader, also after a sudden end, finds the old one or the new one.

    Raises: OutputError.
    """
    path = data_dir / FOLDER / profile.slot.file_name
    content = {
        "slot": {each.name: getattr(profile.slot, each.name) for each in fields(Slot)},
        "asked": said(profile.asked),
        "versions": dict(profile.versions),
        "at": profile.at,
        "summary": dict(profile.summary),
    }
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}", hint="see the setting data_dir") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load_profile(slot: Slot, data_dir: Path) -> Profile | None:
    """The slot's profile; None where there is none, or its file is damaged or from another Hayate's table of options.

    A damaged file is as good as none: whoever tunes again replaces it.
    """
    found = _read(data_dir / FOLDER / slot.file_name)
    return found if found is not None and found.slot == slot else None


def all_profiles(data_dir: Path) -> tuple[Profile, ...]:
    """Every sound profile there is, the newest first."""
    files = (data_dir / FOLDER).glob("*.json") if (data_dir / FOLDER).is_dir() else ()
    found = [profile for path in files if (profile := _read(path)) is not None]
    return tuple(sorted(found, key=lambda profile: (profile.at, profile.slot.file_name), reverse=True))


def find_profile(file_name: str, data_dir: Path) -> Profile:
    """The profile in the file of that name. Raises: UnknownName."""
    known = {profile.slot.file_name: profile for profile in all_profiles(data_dir)}
    if file_name not in known:
        raise UnknownName("profile", file_name, known)
    return known[file_name]


def forget_profile(slot: Slot, data_dir: Path) -> None:
    """Plans for such pictures are the default ones again. Raises: OutputError."""
    path = data_dir / FOLDER / slot.file_name
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} can't be removed: {error.strerror}", hint="see the setting data_dir") from error


def other_cards(slot: Slot, data_dir: Path) -> list[str]:
    """The devices, other than the slot's, that the same work was tuned for."""
    found = (data_dir / FOLDER).glob("*.json") if (data_dir / FOLDER).is_dir() else ()
    rest = replace(slot, device="").file_name  # begins with the mark that stands after a device
    names = sorted(path.name for path in found if path.name.endswith(rest) and path.name != slot.file_name)
    return [name.removesuffix(rest) for name in names]


def said(asked: Asked) -> dict[str, Any]:
    """What was asked for, without what was left open."""
    empty = Asked()
    values = {each.name: getattr(asked, each.name) for each in fields(Asked) if each.name != "notes"}
    return {name: value for name, value in values.items() if value != getattr(empty, name)}


def is_open(asked: Asked) -> bool:
    """Whether nothing was asked for that a profile decides: then one may fill it in."""
    return not set(said(asked)) - {*_LEFT_OPEN, "checks_nan", "offload", "is_offload_for_sdxl"}


def _read(path: Path) -> Profile | None:
    """The profile in a file; None where it is damaged, or under a name by which no plan would find it."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_BYTES))
        found = Profile(
            slot=Slot(**content["slot"]),
            asked=asked_of(content["asked"]),
            versions=dict(content["versions"]),
            at=str(content["at"]),
            summary=dict(content["summary"]),
        )
        return found if found.slot.file_name == path.name else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
