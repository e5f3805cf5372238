"""What surrounds the work: tuned profiles, the port, the system, and the card itself."""

from __future__ import annotations

from hayate.bench.cards import CARDS, find_card
from hayate.doctor.facts import Card, Facts, TunedProfile
from hayate.doctor.figures import agreed, counted, listed, numbers
from hayate.doctor.finding import Action, Certainty, Finding, Fix, Gain, Job, Kind, Severity
from hayate.errors import UnknownName

_TENSOR_CORES = (7, 0)
_SUGGESTED = ("RTX 3060 12GB", "RTX 4070", "RTX 5070 Ti")


def stale_profile(facts: Facts) -> Finding | None:
    """A tuned profile whose machine has changed: it is left out until it is tuned again."""
    stale = [(profile, reason) for profile in facts.profiles if (reason := _staleness(profile, facts))]
    if not stale:
        return None
    lines = [f"{profile.device}: {reason}" for profile, reason in stale]
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"{counted(len(stale), 'tuned profile')} {agreed(stale, 'is', 'are')} out of date: {listed(lines)}",
        why="What won with other versions need not win now, so plans leave it out.",
        gain=Gain(
            kind=Kind.SPEED,
            text=f"what tuning finds; the last time: {stale[0][0].title}",
            certainty=Certainty.MEASURED_HERE,
            source="the profile's own figures",
            times=1.1,
        ),
        fix=Fix(
            text="Tune again; --fix sets the old profile aside.",
            command="hayate tune",
            actions=tuple(Action(job=Job.SET_ASIDE, subject=profile.path) for profile, _ in stale),
        ),
    )


def taken_port(facts: Facts) -> Finding | None:
    """Another program on the server's port."""
    port = next((port for port in facts.ports if not port.is_free and not port.is_hayate), None)
    if port is None:
        return None
    who = f"by {port.holder}" if port.holder else "by another program"
    return Finding(
        severity=Severity.MINOR,
        found=f"port {port.number} is taken {who}",
        why="The page would not start there; another WebUI on the same card also takes its memory.",
        gain=Gain(kind=Kind.WORKS, text="the page starts", certainty=Certainty.MEASURED_HERE, source="tried to listen"),
        fix=Fix(text=f"End the other program, or start with another port: --port {port.number + 10}."),
    )


def old_card(facts: Facts) -> Finding | None:
    """A card without tensor cores: in the end only another one helps."""
    if not facts.nvidia or any(card.capability is None or card.is_from(_TENSOR_CORES) for card in facts.nvidia):
        return None
    card = max(facts.nvidia, key=lambda card: card.memory_bytes or 0)
    shown = ", ".join(f"{name} {CARDS[name].peak_flops / 1e12:.0f}" for name in _SUGGESTED)
    return Finding(
        severity=Severity.MINOR,
        found=f"the {card.name} has no tensor cores",
        why="fp16 saves it memory and no time, and neither compiled steps nor fused attention in 16 bits gain much.",
        gain=Gain(
            kind=Kind.SPEED,
            text=f"3 × and more by another card; TFLOP/s in 16 bits: {shown}, a GTX 1080 9 (fp32)",
            certainty=Certainty.REASONED,
            source="specifications; `hayate bench predict` reckons pictures from them",
            times=3.0,
        ),
        fix=Fix(text="Nothing to do but another card, when you want one."),
    )


def windows_itself(facts: Facts) -> Finding | None:
    """Windows with a card that Linux would compile for out of the box."""
    card = next((card for card in facts.nvidia if card.is_from(_TENSOR_CORES)), None)
    if facts.system.os != "Windows" or card is None:
        return None
    return Finding(
        severity=Severity.MINOR,
        found=f"the {card.name} is used under Windows",
        why="Starting a kernel takes longer there, and Triton, which compiled steps need, is a package of its own.",
        gain=Gain(
            kind=Kind.SPEED,
            text="1.1 to 1.2 × at times under WSL2 or Linux",
            certainty=Certainty.MEASURED_ELSEWHERE,
            source="the Japanese speed-up page's users, March 2023",
            times=1.1,
        ),
        fix=Fix(
            text="Try it with `hayate bench quick` in both; keep the models on WSL's own disk.",
            command="wsl --install",
            needs="an administrator and a restart",
        ),
    )


def untuned(facts: Facts) -> Finding | None:
    """A machine on which nothing was tuned yet."""
    nvidia = [card.name for card in facts.nvidia]
    # torch calls other makes' cards by names that only it knows, so there any profile counts.
    if any(not nvidia or profile.device in nvidia for profile in facts.profiles):
        return None
    name = next((card.name for card in facts.cards), "processor")
    return Finding(
        severity=Severity.MINOR,
        found=f"nothing was tuned for the {name} yet",
        why="Attention, layout, types and graphs win on some machines and lose on others; a table from elsewhere does "
        "not say which.",
        gain=Gain(
            kind=Kind.SPEED,
            text="measured while tuning, and nothing where the default plan wins",
            certainty=Certainty.REASONED,
            source="three minutes of this machine",
            times=1.05,
        ),
        fix=Fix(text="Let it try; `hayate generate` uses what wins.", command="hayate tune"),
    )


def _staleness(profile: TunedProfile, facts: Facts) -> str | None:
    """What has changed since, or None."""
    now: dict[str, str] = {}
    if facts.torch is not None:
        now["torch"] = facts.torch.version
    if profile.device == "CPU":
        if facts.wishes.threads or facts.processor.threads_asked:
            now["threads"] = str(facts.wishes.threads or facts.processor.threads_asked)
    else:
        card = next((card for card in facts.nvidia if _same(card, profile.device)), None)
        if card is None:
            return "the card is not here any more" if facts.nvidia else None
        now |= _of_card(card, facts)
    changed = [name for name, value in now.items() if name in profile.versions and profile.versions[name] != value]
    return ", ".join(f"{name} {profile.versions[name]} is now {now[name]}" for name in changed) or None


def _of_card(card: Card, facts: Facts) -> dict[str, str]:
    now: dict[str, str] = {}
    if facts.torch is not None and facts.torch.cuda:
        now["CUDA"] = facts.torch.cuda
    if card.driver_cuda:  # CUDA counts thousands and tens: 12.8 is 12080
        major, minor = (*numbers(card.driver_cuda), 0, 0)[:2]
        now["driver"] = str(major * 1000 + minor * 10)
    return now


def _same(card: Card, name: str) -> bool:
    if card.name == name:
        return True
    try:
        return find_card(card.name) == find_card(name)
    except UnknownName:
        return False
