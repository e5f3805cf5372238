"""Whether the model files are what they should be: safe, small, there once, and sound in fp16."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from hayate.doctor.facts import Facts, ModelFile
from hayate.doctor.figures import agreed, counted, listed, quoted, size, total
from hayate.doctor.finding import Action, Certainty, Finding, Fix, Gain, Job, Kind, Severity

_NOT_HALF = ("fp32", "bf16")
_HALVES = 0.5
"""From this share of fp32 on a file counts as one."""
_LARGE_BYTES = 100e6
_TENSORS_ONLY = ("tensors only", "tensors, and what trainers keep beside them")
_FIXED_VAE = "https://huggingface.co/madebyollin/sdxl-vae-fp16-fix"


def pickles(facts: Facts) -> Finding | None:
    """Checkpoints, VAEs or LoRAs that are pickles."""
    found = [each for each in facts.models if each.form == "pickle"]
    if not found:
        return None
    worst = [each for each in found if each.pickle_verdict not in (None, *_TENSORS_ONLY)]
    safe = [each for each in found if each.pickle_verdict in _TENSORS_ONLY]
    says = f"; {listed(_names(worst))} {agreed(worst, 'asks', 'ask')} for what no checkpoint needs" if worst else ""
    return Finding(
        severity=Severity.SERIOUS if worst else Severity.WORTHWHILE,
        found=f"{counted(len(found), 'model')} of {total(each.size_bytes for each in found)} "
        f"{agreed(found, 'is a pickle', 'are pickles')}: {listed(_names(found))}{says}",
        why="A pickle is a program, and Hayate opens none; as safetensors the same weights are mapped instead of read.",
        gain=Gain(
            kind=Kind.SAFETY,
            text="no foreign code, and the models can be used here",
            certainty=Certainty.MEASURED_ELSEWHERE,
            source="CVE-2025-32434, CVE-2026-24747: holes in the unpickler of older torch",
        ),
        fix=Fix(
            text="Convert them; the reader runs in a process that may do nothing else, and the pickles are kept aside."
            if safe
            else "Scan them, and do not convert what would run code.",
            command=f"hayate models {'convert' if safe else 'scan'} {quoted((safe or found)[0].path)}",
            actions=tuple(Action(job=Job.CONVERT_PICKLE, subject=each.path) for each in safe),
        ),
    )


def broken_files(facts: Facts) -> Finding | None:
    """Files under a model's name that are none, or were cut off."""
    found = [each for each in facts.models if each.form == "broken"]
    if not found:
        return None
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"{counted(len(found), 'file')} can't be read as {agreed(found, 'a model', 'models')}: "
        f"{listed(_names(found))}",
        why=found[0].problem or "They are cut off, or something else under a model's name.",
        gain=Gain(
            kind=Kind.WORKS, text="the model can be used", certainty=Certainty.MEASURED_HERE, source="its header"
        ),
        fix=Fix(text="Download it again; git clones need `git lfs pull`."),
    )


def stored_in_fp32(facts: Facts) -> Finding | None:
    """Checkpoints that are stored in fp32."""
    found = [each for each in facts.models if _share(each, "F32") > _HALVES and each.size_bytes > _LARGE_BYTES]
    if not found:
        return None
    saved = sum(each.dtype_bytes["F32"] // 2 for each in found)
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"{counted(len(found), 'checkpoint')} {agreed(found, 'is', 'are')} stored in fp32: "
        f"{listed(_names(found))}",
        why="On a GPU they compute in fp16 in any case; until then twice the bytes are read, kept and copied.",
        gain=Gain(
            kind=Kind.LOADING,
            text=f"2 × where the disk is the limit, and {size(saved)} of disk",
            certainty=Certainty.REASONED,
            source="half the bytes; the pictures' speed stays (users measured none either)",
            times=2.0,
        ),
        fix=Fix(
            text="Convert to fp16; the result is tried out for NaN, and says so itself. Then the old file can go.",
            command=f"hayate models convert {quoted(found[0].path)} --dtype fp16",
        ),
    )


def unpruned(facts: Facts) -> Finding | None:
    """Checkpoints with the averages of their training beside the weights."""
    found = [each for each in facts.models if each.ema_bytes > _LARGE_BYTES]
    if not found:
        return None
    return Finding(
        severity=Severity.MINOR,
        found=f"{counted(len(found), 'checkpoint')} {agreed(found, 'carries', 'carry')} "
        f"{total(each.ema_bytes for each in found)} of training's averages: {listed(_names(found))}",
        why="Nothing uses them to make pictures. Files are mapped, so they cost disk and hashing, not loading.",
        gain=Gain(
            kind=Kind.DISK,
            text=total(each.ema_bytes for each in found),
            certainty=Certainty.MEASURED_HERE,
            source="the files' headers",
        ),
        fix=Fix(
            text="Write them without; then the old file can go.",
            command=f"hayate models convert {quoted(found[0].path)} --ema drop",
        ),
    )


def duplicates(facts: Facts) -> Finding | None:
    """Files with the same tensors under other names."""
    groups: dict[str, list[ModelFile]] = {}
    for each in facts.models:
        if each.tensors_mark and each.size_bytes > 1e6:
            groups.setdefault(each.tensors_mark, []).append(each)
    twice = [group for group in groups.values() if len(group) > 1]
    if not twice:
        return None
    spare = sum(each.size_bytes for group in twice for each in group[1:])
    pairs = [listed(_names(group), " = ") for group in twice]
    return Finding(
        severity=Severity.MINOR,
        found=f"the same tensors more than once: {listed(pairs)}",
        why="Headers and samples agree; they take disk, page cache and places in lists.",
        gain=Gain(
            kind=Kind.DISK,
            text=size(spare),
            certainty=Certainty.MEASURED_HERE,
            source="headers, and samples of the tensors' bytes",
        ),
        fix=Fix(
            text="Compare them to the last bit, then delete what you don't need.", command="hayate models duplicates"
        ),
    )


def nan_vae(facts: Facts) -> Finding | None:
    """VAEs that overflow in fp16."""
    found = [each for each in facts.models if each.safe_types.get("vae") in _NOT_HALF]
    if not found:
        return None
    has_bf16 = any(card.is_from((8, 0)) for card in facts.nvidia)
    is_half = facts.wishes.settings.get("dtype") == "fp16" or "--precision half" in " ".join(facts.wishes.flags)
    is_slower = bool(facts.nvidia) and not has_bf16
    first = found[0]
    bake = "bake" if first.kind == "checkpoint" else ""
    return Finding(
        severity=Severity.WORTHWHILE if is_half or is_slower else Severity.MINOR,
        found=f"{counted(len(found), 'model')} {agreed(found, 'has a VAE that makes', 'have VAEs that make')} NaN in "
        f"fp16: {listed(_names(found))}",
        why=f"Elsewhere pictures come out black. Hayate decodes in {first.safe_types['vae']} instead"
        + (", which takes twice the memory and time on this card." if is_slower else ", and says so."),
        gain=Gain(
            kind=Kind.SPEED if is_slower else Kind.WORKS,
            text="2 × for decoding, a few per cent of a picture" if is_slower else "right pictures in other programs",
            certainty=Certainty.REASONED,
            source="fp16 against fp32 on cards without bf16" if is_slower else "",
            times=1.05,
        ),
        fix=Fix(
            text=f"Take the VAE that was made for fp16 ({_FIXED_VAE})"
            + (", and bake it in." if bake else " instead.")
            + " No need of --no-half-vae.",
            command=f"hayate models bake {quoted(first.path)} --vae sdxl_vae.safetensors" if bake else "",
        ),
    )


def _share(file: ModelFile, dtype: str) -> float:
    whole = sum(file.dtype_bytes.values())
    return file.dtype_bytes.get(dtype, 0) / whole if whole else 0.0


def _names(files: Iterable[ModelFile]) -> list[str]:
    return [PurePosixPath(each.path.replace("\\", "/")).name for each in files]
