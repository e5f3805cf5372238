"""Checks speak up where they should, keep still where they don't know, and never fail."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hayate.doctor.catalogue import CHECKS
from hayate.doctor.diagnose import as_object, diagnose, is_serious
from hayate.doctor.facts import (
    Allocator,
    Card,
    Cliff,
    Extension,
    Facts,
    Folder,
    Holder,
    Memory,
    ModelFile,
    Package,
    Port,
    Processor,
    Python,
    System,
    Windows,
    Wishes,
)
from hayate.doctor.finding import Certainty, Job, Kind, Severity
from hayate.settings import KEYS
from tests.doctor.machines import CARD, GB, PROFILE, TOOLS, TORCH, machine, said

WINDOWS = System(os="Windows", release="11", machine="AMD64")
WSL = System(os="Linux", release="5.15", machine="x86_64", is_wsl=True)


def checkpoint(**changes: object) -> ModelFile:
    facts = {"path": "m/a.safetensors", "kind": "checkpoint", "form": "safetensors", "size_bytes": 2 * GB}
    return ModelFile(**{**facts, **changes})  # type: ignore[arg-type]


def models_on(**changes: object) -> tuple[Folder, ...]:
    facts = {"role": "models", "path": "m", "is_there": True, "is_writable": True}
    return (Folder(**{**facts, **changes}),)  # type: ignore[arg-type]


def test_a_sound_machine_hears_nothing() -> None:
    assert diagnose(machine()) == ()


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.from_type(Facts))
def test_no_check_fails_whatever_the_facts(facts: Facts) -> None:
    findings = diagnose(facts)
    json.dumps(as_object(facts, findings))
    for each in findings:
        assert each.found
        assert each.fix.text
        for action in each.fix.actions:
            assert action.job in Job
            assert action.job is not Job.WRITE_SETTING or action.subject in KEYS


def test_what_is_not_known_is_no_finding() -> None:
    facts = Facts(
        system=System(os="Linux", release="6", machine="x86_64"),
        python=Python(version="3.12", executable="python"),
        processor=Processor(model="?"),
        memory=Memory(total_bytes=32 * GB, available_bytes=16 * GB),
        cards=(Card(name="NVIDIA Something"),),
    )
    assert [finding.check for finding in diagnose(facts)] == ["untuned"]


def test_names_are_there_once() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        # NVIDIA's rule: a cubin runs on its own major version from its minor one on; PTX on everything newer.
        ((8, 6), ("sm_80",), True),
        ((8, 0), ("sm_86",), False),
        ((8, 9), ("sm_86",), True),
        ((9, 0), ("sm_89",), False),
        ((12, 0), ("sm_90",), False),
        ((12, 0), ("sm_90", "compute_90"), True),
        ((6, 1), ("sm_60",), True),
        ((6, 1), ("sm_75", "compute_75"), False),
        ((7, 5), ("sm_75",), True),
        ((12, 1), ("sm_120",), True),
        ((9, 0), ("sm_90a",), True),
    ],
)
def test_a_build_has_kernels_for_a_card(
    capability: tuple[int, int], architectures: tuple[str, ...], runs: bool
) -> None:
    facts = machine(torch=replace(TORCH, architectures=architectures), cards=(replace(CARD, capability=capability),))
    assert (said("card without kernels", facts) is None) is runs


@pytest.mark.parametrize(
    ("capability", "cuda", "is_certain_fault"),
    [((12, 0), "12.6", True), ((12, 0), "12.8", False), ((6, 1), "13.0", True), ((6, 1), "12.6", False)],
)
def test_without_a_list_only_what_is_certain_is_said(
    capability: tuple[int, int], cuda: str, is_certain_fault: bool
) -> None:
    torch = replace(TORCH, architectures=None, cuda=cuda)
    found = said("card without kernels", machine(torch=torch, cards=(replace(CARD, capability=capability),)))
    assert (found is not None) is is_certain_fault


@pytest.mark.parametrize(
    ("capability", "driver", "index"),
    [
        ((6, 1), "581.57", "cu126"),
        ((8, 6), "581.57", "cu130"),
        ((8, 6), "560.94", "cu126"),
        ((12, 0), "576.02", "cu129"),
        ((12, 0), "591.44", "cu130"),
    ],
)
def test_the_torch_that_is_offered_fits_card_and_driver(capability: tuple[int, int], driver: str, index: str) -> None:
    facts = machine(
        torch=replace(TORCH, version="2.13.0+cpu", cuda=None, architectures=None),
        cards=(replace(CARD, capability=capability, driver=driver),),
    )
    found = said("CPU-only torch", facts)
    assert found is not None
    assert f"/whl/{index} " in found.fix.command
    assert found.severity is Severity.SERIOUS


def test_a_card_that_no_torch_serves_is_sent_to_the_cpu() -> None:
    old = replace(CARD, capability=(3, 5), name="Tesla K80")
    found = said("card without kernels", machine(cards=(old,)))
    assert found is not None
    assert "--device cpu" in found.fix.command


@pytest.mark.parametrize(
    ("cuda", "system", "driver", "is_old"),
    [
        ("13.0", System(os="Linux", release="6", machine="x86_64"), "570.124.06", True),
        ("13.0", System(os="Linux", release="6", machine="x86_64"), "580.65.06", False),
        ("12.6", System(os="Linux", release="6", machine="x86_64"), "525.60.13", False),
        ("12.6", WINDOWS, "526.98", True),
        ("12.6", WSL, "526.98", True),
        ("12.6", WSL, "560.94", False),
    ],
)
def test_the_driver_must_serve_torchs_cuda(cuda: str, system: System, driver: str, is_old: bool) -> None:
    facts = machine(system=system, torch=replace(TORCH, cuda=cuda), cards=(replace(CARD, driver=driver),))
    assert (said("old driver", facts) is not None) is is_old


def test_a_cudnn_below_what_torch_was_built_with_is_named_with_its_package() -> None:
    torch = Package(name="torch", version="2.13.0", requires=("nvidia-cudnn-cu13==9.19.0.56",))
    python = Python(version="3.12", executable="python", packages=(torch,))
    found = said("old cuDNN", machine(python=python, torch=replace(TORCH, cudnn="9.1.0")))
    assert found is not None
    assert '"nvidia-cudnn-cu13==9.19.0.56"' in found.fix.command
    assert "1.7" not in found.gain.text  # the card has kernels there: no such promise
    assert said("old cuDNN", machine(python=python, torch=replace(TORCH, cudnn="9.19.0"))) is None


def test_an_idle_cards_slow_bus_is_no_fault() -> None:
    idle = replace(CARD, state="P8", pcie_generation=1)
    assert said("narrow PCIe", machine(cards=(idle,))) is None


@pytest.mark.parametrize(("lanes", "most", "is_narrow"), [(16, 16, False), (8, 16, False), (4, 16, True), (1, 1, True)])
def test_few_lanes_are(lanes: int, most: int, is_narrow: bool) -> None:
    found = said("narrow PCIe", machine(cards=(replace(CARD, pcie_lanes=lanes, pcie_lanes_max=most),)))
    assert (found is not None) is is_narrow


def test_lanes_matter_more_where_weights_are_streamed() -> None:
    small = replace(CARD, pcie_lanes=4, memory_bytes=6 * GB)
    found = said("narrow PCIe", machine(cards=(small,)))
    assert found is not None
    assert found.gain.kind is Kind.SPEED
    assert "0.9 s" in found.why  # 6.9 GB over four lanes of PCIe 4, 1.97 GB/s each


def test_a_slowed_clock_and_a_power_limit_are_named() -> None:
    hot = replace(CARD, slowdowns=("heat",), clock_mhz=900, clock_max_mhz=2475, power_limit_w=120.0)
    facts = machine(cards=(hot,))
    slowed, limited = said("slowed clock", facts), said("power limit", facts)
    assert slowed is not None
    assert "900 of 2475 MHz" in slowed.found
    assert limited is not None
    assert limited.fix.command == "nvidia-smi -pl 200"


def test_who_holds_memory_is_named() -> None:
    held = replace(CARD, used_bytes=5 * GB, holders=(Holder(name="game.exe", used_bytes=4 * GB),))
    found = said("held memory", machine(cards=(held,)))
    assert found is not None
    assert "game.exe (4.0 GB)" in found.found
    assert found.severity is Severity.WORTHWHILE


def test_a_card_that_nobody_uses_is_named_unless_somebody_chose() -> None:
    two = (CARD, replace(CARD, name="NVIDIA GeForce RTX 3060", capability=(8, 6)))
    found = said("idle cards", machine(cards=two))
    assert found is not None
    assert "NVIDIA GeForce RTX 4070" in found.found
    assert "NVIDIA GeForce RTX 3060" in found.found
    assert found.fix.command.endswith("serve --devices cuda:0,cuda:1")
    (action,) = found.fix.actions
    assert (action.job, action.subject, action.value) == (Job.WRITE_SETTING, "devices", "cuda:0,cuda:1")
    assert found.fix.is_asked_for  # the other card may be somebody's
    assert said("idle cards", machine(cards=(CARD,))) is None
    for wishes in (
        Wishes(settings={"devices": "cuda:0,cuda:1"}),
        Wishes(settings={"device": "cuda:1"}),
        Wishes(flags=("--device-id", "1")),
        Wishes(hides_cards=True),
    ):
        assert said("idle cards", machine(cards=two, wishes=wishes)) is None
    too_old = replace(CARD, capability=(3, 5))  # torch may not number it, and what is cuda:1 then?
    assert said("idle cards", machine(cards=(*two, too_old))) is None


@pytest.mark.parametrize("system", [WINDOWS, WSL])
def test_a_measured_cliff_counts_more_than_what_is_usual(system: System) -> None:
    sound = replace(CARD, driver="566.36", cliff=Cliff())
    assert said("system-memory fallback", machine(system=system, cards=(sound,))) is None
    steep = replace(sound, cliff=Cliff(held_bytes=11 * GB, times_slower=22.0))
    found = said("system-memory fallback", machine(system=system, cards=(steep,)))
    assert found is not None
    assert found.gain.certainty is Certainty.MEASURED_HERE
    assert ("Control Panel" in found.fix.text) is (system is WINDOWS)  # inside WSL2 the driver ignores its setting


def test_linux_has_no_fallback_and_no_scheduling() -> None:
    facts = machine(windows=Windows(hags=None))
    assert said("system-memory fallback", facts) is None
    assert said("GPU scheduling", facts) is None


@pytest.mark.parametrize(("asked", "severity"), [(16, None), (17, Severity.WORTHWHILE), (64, Severity.SERIOUS)])
def test_more_threads_than_processors_are_too_many(asked: int, severity: Severity | None) -> None:
    found = said("too many threads", machine(wishes=Wishes(threads=asked)))
    assert (found and found.severity) == severity
    if found is not None:
        assert found.fix.actions[0].job is Job.WRITE_SETTING


def test_a_cpu_that_idles_counts_only_without_a_card() -> None:
    wishes = Wishes(threads=2)
    assert said("idle processors", machine(wishes=wishes)) is None
    found = said("idle processors", machine(wishes=wishes, cards=()))
    assert found is not None
    assert "8 cores" in found.found


def test_a_containers_quota_becomes_a_setting() -> None:
    processor = Processor(model="x", cores=32, threads=64, usable_threads=64, quota_threads=4.0)
    found = said("container quota", machine(processor=processor))
    assert found is not None
    assert (found.fix.actions[0].subject, found.fix.actions[0].value) == ("threads", "4")
    assert said("container quota", machine(processor=processor, wishes=Wishes(threads=4))) is None


def test_glibc_tcmalloc_and_jemalloc_are_fine_and_musl_is_not() -> None:
    for name in ("glibc", "tcmalloc", "jemalloc"):
        assert said("allocator", machine(cards=(), allocator=Allocator(name=name))) is None
    assert said("allocator", machine(cards=(), allocator=Allocator(name="musl"))) is not None


def test_triton_is_for_cards_that_it_knows() -> None:
    tools = replace(TOOLS, triton=None)
    assert said("compile toolchain", machine(toolchain=tools)) is not None
    pascal = replace(CARD, capability=(6, 1))
    assert said("compile toolchain", machine(toolchain=tools, cards=(pascal,))) is None
    headless = said("compile toolchain", machine(toolchain=replace(TOOLS, has_python_headers=False)))
    assert headless is not None
    assert "python3-dev" in headless.fix.command


def test_kept_checkpoints_are_reckoned_from_disk_and_memory() -> None:
    folder = models_on(disk="hdd", read_bytes_per_s=100e6, was_cached=False)
    models = tuple(checkpoint(path=f"m/{name}", size_bytes=6 * GB) for name in "abc")
    facts = machine(folders=folder, models=models)
    found = said("checkpoints in memory", facts)
    assert found is not None
    action = found.fix.actions[0]
    assert action.subject == "checkpoints_cache_bytes"
    assert int(action.value) == 12 * GB  # the two others; 28 GB free less one model and 4 GB to spare is 18
    assert "60 s" in found.why
    assert "100 ×" in found.gain.text
    assert said("checkpoints in memory", replace(facts, memory=replace(facts.memory, available_bytes=9 * GB))) is None
    assert said("checkpoints in memory", replace(facts, folders=models_on(disk="nvme"))) is None


def test_what_was_read_from_memory_says_nothing_of_the_disk() -> None:
    folder = models_on(disk="nvme", read_bytes_per_s=90e6, was_cached=True)
    assert said("slow disk", machine(folders=folder, models=(checkpoint(),))) is None


def test_swap_matters_where_the_model_fills_the_memory() -> None:
    memory = Memory(total_bytes=16 * GB, available_bytes=9 * GB)
    facts = machine(memory=memory, models=(checkpoint(size_bytes=7 * GB),))
    assert said("no swap", facts) is not None
    assert said("no swap", replace(facts, memory=replace(memory, swap_bytes=8 * GB))) is None
    assert said("no swap", replace(facts, models=(checkpoint(size_bytes=2 * GB),))) is None
    swapped = replace(memory, swap_bytes=8 * GB, swap_used_bytes=5 * GB, available_bytes=1 * GB)
    assert said("swapping", machine(memory=swapped)) is not None


def test_a_pickle_that_would_run_code_is_scanned_and_not_converted() -> None:
    bad = checkpoint(path="m/bad.ckpt", form="pickle", pickle_verdict="would run code")
    found = said("pickles", machine(models=(bad,)))
    assert found is not None
    assert found.severity is Severity.SERIOUS
    assert found.fix.actions == ()
    assert found.fix.command == "hayate models scan m/bad.ckpt"
    both = said(
        "pickles", machine(models=(bad, checkpoint(path="m/a.ckpt", form="pickle", pickle_verdict="tensors only")))
    )
    assert both is not None
    assert [action.subject for action in both.fix.actions] == ["m/a.ckpt"]
    assert is_serious([both])


def test_copies_are_counted_once_each() -> None:
    same = [checkpoint(path=f"m/{name}", tensors_mark="one") for name in "abc"]
    found = said("duplicates", machine(models=(*same, checkpoint(tensors_mark="two"))))
    assert found is not None
    assert found.gain.text == "4.0 GB"


def test_a_nan_vae_costs_time_only_on_cards_without_bf16() -> None:
    models = (checkpoint(family="sdxl", safe_types={"vae": "fp32"}),)
    new = said("NaN in fp16", machine(models=models))
    old = said("NaN in fp16", machine(models=models, cards=(replace(CARD, capability=(7, 5)),)))
    half = said("NaN in fp16", machine(models=models, wishes=Wishes(settings={"dtype": "fp16"})))
    assert new is not None
    assert new.severity is Severity.MINOR
    assert old is not None
    assert old.gain.kind is Kind.SPEED
    assert half is not None
    assert half.severity is Severity.WORTHWHILE


def test_little_room_and_none() -> None:
    folder = Folder(role="outputs", path="o", is_there=True, is_writable=True, free_bytes=GB)
    little = said("full disk", machine(folders=(folder,)))
    none = said("full disk", machine(folders=(replace(folder, free_bytes=10**7),)))
    assert little is not None
    assert none is not None
    assert (little.severity, none.severity) == (Severity.WORTHWHILE, Severity.SERIOUS)
    locked = said("missing folder", machine(folders=(replace(folder, is_writable=False),)))
    assert locked is not None
    assert locked.severity is Severity.SERIOUS


@pytest.mark.parametrize(
    ("flags", "check"),
    [
        (("--no-half",), "fp32 on a GPU"),
        (("--precision", "full"), "fp32 on a GPU"),
        (("--medvram",), "needless offloading"),
        (("--opt-split-attention-v1",), "attention in slices"),
        (("--xformers",), "attention packages"),
    ],
)
def test_flags_that_cost_speed_are_named(flags: tuple[str, ...], check: str) -> None:
    facts = machine(wishes=Wishes(flags=flags))
    assert [finding.check for finding in diagnose(facts)] == [check]
    assert "COMMANDLINE_ARGS" in diagnose(facts)[0].fix.text


def test_cards_that_make_nan_keep_their_no_half() -> None:
    faulty = replace(CARD, name="NVIDIA GeForce GTX 1660 Ti", capability=(7, 5), memory_bytes=6 * GB)
    assert said("fp32 on a GPU", machine(cards=(faulty,), wishes=Wishes(flags=("--no-half",)))) is None
    assert said("needless offloading", machine(cards=(faulty,), wishes=Wishes(flags=("--medvram",)))) is None


@pytest.mark.parametrize(
    ("versions", "is_stale"),
    [
        ({"torch": "2.13.0", "CUDA": "13.0", "driver": "13000"}, False),
        ({"torch": "2.12.1"}, True),
        ({"torch": "2.13.0", "driver": "12080"}, True),
        ({}, False),
    ],
)
def test_a_profile_is_stale_when_what_it_rests_on_has_changed(versions: dict[str, str], is_stale: bool) -> None:
    found = said("stale profile", machine(profiles=(replace(PROFILE, versions=versions),)))
    assert (found is not None) is is_stale


def test_a_profile_of_a_card_that_is_gone_is_stale() -> None:
    found = said("stale profile", machine(profiles=(replace(PROFILE, device="NVIDIA GeForce GTX 970"),)))
    assert found is not None
    assert found.fix.actions[0].subject == PROFILE.path


def test_hayates_own_port_is_no_finding() -> None:
    taken = Port(number=7860, is_free=False, holder="python", is_hayate=True)
    assert said("taken port", machine(ports=(taken,))) is None
    assert said("taken port", machine(ports=(replace(taken, is_hayate=False),))) is not None


def test_only_slow_and_active_extensions_are_named() -> None:
    extensions = (
        Extension(name="slow", import_ms=2500.0),
        Extension(name="quick", import_ms=30.0),
        Extension(name="off", import_ms=9000.0, is_disabled=True),
        Extension(name="unknown"),
    )
    found = said("slow extensions", machine(extensions=extensions))
    assert found is not None
    assert found.found.endswith("slow (2.5 s)")


def test_a_refused_settings_file_is_serious() -> None:
    found = said(
        "settings file", machine(wishes=Wishes(settings_problem="settings.toml line 3: unknown setting 'stepz'"))
    )
    assert found is not None
    assert is_serious([found])
