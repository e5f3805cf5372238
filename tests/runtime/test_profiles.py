"""What was tuned is found again, grows stale, and a damaged file is as good as none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hayate.errors import UnknownName
from hayate.models.config import SD1, SDXL
from hayate.runtime.asked import Asked
from hayate.runtime.device import Device
from hayate.runtime.profiles import (
    Profile,
    Slot,
    all_profiles,
    find_profile,
    forget_profile,
    is_open,
    load_profile,
    other_cards,
    save_profile,
    slot_for,
    versions_of,
)

CPU = Device(torch=torch.device("cpu"), title="CPU, 2 threads", reason="a test")
CARD = Device(torch=torch.device("cuda"), title="NVIDIA GeForce RTX 3060", reason="a test", capability=(8, 6))
VERSIONS = {"torch": "2.13.0", "driver": "13000"}


def profile(slot: Slot, **asked: object) -> Profile:
    return Profile(
        slot=slot, asked=Asked(**asked), versions=VERSIONS, at="2026-11-25T10:00:00Z", summary={"ratio": 1.2}
    )


SLOT = slot_for(CARD, SD1, (512, 512), "exact")


def test_a_profile_comes_back_as_it_was(tmp_path: Path) -> None:
    kept = profile(SLOT, attention="math", compile="default", compile_parts=("unet", "vae"), inputs_at_once=1)
    save_profile(kept, tmp_path)
    assert load_profile(SLOT, tmp_path) == kept
    assert load_profile(replace(SLOT, promise="fast"), tmp_path) is None
    assert load_profile(slot_for(CARD, SDXL, (512, 512), "exact"), tmp_path) is None


@pytest.mark.parametrize(
    ("size", "side"), [((512, 512), 512), ((512, 768), 768), ((64, 64), 256), ((8192, 8192), 4096)]
)
def test_a_size_belongs_to_the_class_that_holds_it(size: tuple[int, int], side: int) -> None:
    assert slot_for(CARD, SD1, size, "exact").size_px == side


def test_a_changed_version_makes_it_stale_and_is_named() -> None:
    kept = profile(SLOT)
    assert kept.staleness(VERSIONS) is None
    assert kept.staleness({**VERSIONS, "driver": "14000"}) == "driver 13000 is now 14000"
    assert "torch" in (kept.staleness({"torch": "3.0"}) or "")
    assert versions_of(CPU, Asked())["torch"] == str(torch.__version__)


def test_another_card_has_its_own_and_is_told_of_this_one(tmp_path: Path) -> None:
    save_profile(profile(SLOT), tmp_path)
    other = slot_for(replace(CARD, title="NVIDIA GeForce RTX 4090"), SD1, (512, 512), "exact")
    assert load_profile(other, tmp_path) is None
    assert other_cards(other, tmp_path) == ["NVIDIA-GeForce-RTX-3060"]
    assert other_cards(SLOT, tmp_path) == []
    assert other_cards(replace(other, promise="fast"), tmp_path) == []


def test_all_of_them_are_listed_the_newest_first_and_one_can_be_forgotten(tmp_path: Path) -> None:
    assert all_profiles(tmp_path) == ()
    old = profile(SLOT, attention="math")
    new = replace(profile(replace(SLOT, promise="fast"), layers="packed"), at="2026-11-26T10:00:00Z")
    path = save_profile(old, tmp_path)
    save_profile(new, tmp_path)
    (path.parent / "damaged.json").write_text("{")
    (path.parent / "renamed.json").write_bytes(path.read_bytes())
    assert all_profiles(tmp_path) == (new, old)
    assert find_profile(path.name, tmp_path) == old
    forget_profile(SLOT, tmp_path)
    forget_profile(SLOT, tmp_path)
    assert all_profiles(tmp_path) == (new,)
    assert load_profile(SLOT, tmp_path) is None


def test_the_name_of_a_file_that_is_no_profile_is_unknown_wherever_it_leads(tmp_path: Path) -> None:
    path = save_profile(profile(SLOT), tmp_path / "data")
    path.rename(tmp_path / path.name)
    for name in (path.name, f"../{path.name}", str(tmp_path / path.name), ""):
        with pytest.raises(UnknownName):
            find_profile(name, tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(damage=st.binary(max_size=60), place=st.integers(0, 500))
def test_a_damaged_file_is_none_or_the_same_slot(tmp_path: Path, damage: bytes, place: int) -> None:
    path = save_profile(profile(SLOT, attention="math"), tmp_path)
    content = bytearray(path.read_bytes())
    content[place : place + len(damage)] = damage
    path.write_bytes(content)
    found = load_profile(SLOT, tmp_path)
    assert found is None or found.slot == SLOT


def test_a_profile_of_options_that_are_no_more_is_none(tmp_path: Path) -> None:
    path = save_profile(profile(SLOT, attention="math"), tmp_path)
    path.write_text(path.read_text().replace('"attention"', '"attentoin"'))
    assert load_profile(SLOT, tmp_path) is None


@pytest.mark.parametrize(
    "asked", [{}, {"promise": "fast"}, {"offload": "medvram"}, {"checks_nan": False}, {"notes": ("x",)}]
)
def test_a_profile_may_fill_in_what_is_open(asked: dict) -> None:
    assert is_open(Asked(**asked))


@pytest.mark.parametrize(
    "asked", [{"dtype": "fp32"}, {"attention": "math"}, {"layers": "plain"}, {"compile": "default"}]
)
def test_what_is_asked_for_is_never_tuned_away(asked: dict) -> None:
    assert not is_open(Asked(**asked))
