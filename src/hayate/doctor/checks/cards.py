"""Whether the card may do what it could: power, clocks, the way to it, and who else is on it."""

from __future__ import annotations

from hayate.doctor.facts import Card, Facts
from hayate.doctor.figures import counted, listed, seconds, size
from hayate.doctor.finding import Action, Certainty, Finding, Fix, Gain, Job, Kind, Severity

_LANE_BYTES_PER_S = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.56e9}
"""What a lane of each generation of PCIe carries."""
SDXL_BYTES = 6.9e9
SDXL_NEEDS_BYTES = 8e9
"""What SDXL at 1024×1024 wants in fp16, weights and step."""
_OLDEST = (5, 0)
"""What today's torch is built for at least."""
_HELD = 0.15
"""The share of a card's memory that others may have before it is worth a word."""


def power_limit(facts: Facts) -> Finding | None:
    """A power limit below the card's default."""
    card = next((card for card in facts.nvidia if _limited(card) < 0.95), None)
    if card is None or card.power_default_w is None or card.power_limit_w is None:
        return None
    share = _limited(card)
    return Finding(
        severity=Severity.MINOR if share > 0.8 else Severity.WORTHWHILE,
        found=f"the {card.name} is held to {card.power_limit_w:.0f} W of its usual {card.power_default_w:.0f} W",
        why="At work its clock goes down until it fits.",
        gain=Gain(
            kind=Kind.SPEED,
            text=f"at most {1 / share:.2f} ×; in practice less, as the last watts bring the least",
            certainty=Certainty.REASONED,
            source="speed falls more slowly than power",
            times=1 + (1 / share - 1) / 3,
        ),
        fix=Fix(
            text="Set the default again, unless you chose this for heat, noise or cost.",
            command=f"nvidia-smi -pl {card.power_default_w:.0f}",
            needs="an administrator",
        ),
    )


def slowed_clock(facts: Facts) -> Finding | None:
    """A clock that heat or the power supply holds down right now."""
    card = next((card for card in facts.nvidia if card.slowdowns), None)
    if card is None:
        return None
    clock = f", at {card.clock_mhz} of {card.clock_max_mhz} MHz" if card.clock_mhz and card.clock_max_mhz else ""
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"the {card.name} is slowed down by itself: {', '.join(card.slowdowns)}{clock}",
        why="Heat or a weak power supply costs speed for as long as it lasts.",
        gain=Gain(kind=Kind.SPEED, text="the full clock", certainty=Certainty.REASONED, times=1.2),
        fix=Fix(text="Clean the fans, let air in, check the power cables; `nvidia-smi -q -d PERFORMANCE` says which."),
    )


def narrow_pcie(facts: Facts) -> Finding | None:
    """A card in a slot of four lanes or fewer, or in one that gives fewer than it has."""
    card = next((card for card in facts.nvidia if _is_narrow(card)), None)
    if card is None or card.pcie_lanes is None:
        return None
    # An idle card lowers the generation to save power; the most that card and board can do is what counts.
    generation = card.pcie_generation_max or card.pcie_generation or 3
    lane = _LANE_BYTES_PER_S.get(generation, 0.985e9)
    possible = max(card.pcie_lanes_max or 0, 8)
    now_s, then_s = SDXL_BYTES / (lane * card.pcie_lanes), SDXL_BYTES / (lane * possible)
    is_streamed = card.memory_bytes is not None and card.memory_bytes < SDXL_NEEDS_BYTES
    return Finding(
        severity=Severity.WORTHWHILE if is_streamed else Severity.MINOR,
        found=f"the {card.name} has {counted(card.pcie_lanes, 'lane')} of PCIe {generation}",
        why=f"SDXL's weights take {seconds(now_s)} to the card, and {seconds(then_s)} by {possible} lanes"
        + ("; with so little memory they go there again in every step." if is_streamed else "; once loaded, none."),
        gain=Gain(
            kind=Kind.SPEED if is_streamed else Kind.LOADING,
            text=f"up to {possible / card.pcie_lanes:.0f} × where weights move (loading, medvram, lowvram)",
            certainty=Certainty.REASONED,
            source=f"PCIe {generation}: {lane / 1e9:.2f} GB/s per lane",
            times=possible / card.pcie_lanes / 2,
        ),
        fix=Fix(text="Put the card into the slot next to the processor, without a riser, and look at the BIOS' lanes."),
    )


def held_memory(facts: Facts) -> Finding | None:
    """Other programs that have a good part of the card's memory."""
    card = max(facts.nvidia, key=_held_share, default=None)
    if card is None or card.memory_bytes is None or card.used_bytes is None or _held_share(card) < _HELD:
        return None
    left = card.memory_bytes - card.used_bytes
    is_tight = left < SDXL_NEEDS_BYTES <= card.memory_bytes
    names = sorted(card.holders, key=lambda holder: -(holder.used_bytes or 0))
    who = listed([f"{each.name} ({size(each.used_bytes)})" if each.used_bytes else each.name for each in names])
    return Finding(
        severity=Severity.WORTHWHILE if is_tight else Severity.MINOR,
        found=f"{size(card.used_bytes)} of the {card.name}'s {size(card.memory_bytes)} are taken"
        + (f": {who}" if who else ""),
        why="With less than about 8 GB left SDXL's weights wait in main memory and are copied in every step."
        if is_tight
        else "That much less is there for large pictures and batches.",
        gain=Gain(
            kind=Kind.SPEED if is_tight else Kind.MEMORY,
            text=f"{size(card.used_bytes)} more for pictures",
            certainty=Certainty.MEASURED_HERE,
            source="nvidia-smi",
            times=1.5 if is_tight else 1.0,
        ),
        fix=Fix(text="Close what is not needed: other WebUIs, games, browsers with hardware acceleration."),
    )


def idle_cards(facts: Facts) -> Finding | None:
    """Cards that the server leaves alone, where nobody has chosen among them."""
    cards, wishes = facts.nvidia, facts.wishes
    chosen = {"device", "devices"} & wishes.settings.keys() | {"--device-id", "--use-cpu"} & set(wishes.flags)
    if len(cards) < 2 or chosen or wishes.hides_cards:
        return None
    if not all(card.is_from(_OLDEST) for card in cards):  # torch may not count them as the driver does
        return None
    devices = ",".join(f"cuda:{number}" for number in range(len(cards)))
    return Finding(
        severity=Severity.WORTHWHILE,
        found=f"{len(cards)} cards are here ({listed([card.name for card in cards])}), and the server uses one",
        why="With a worker on each, as many jobs of the queue run at once; a single picture is no faster.",
        gain=Gain(
            kind=Kind.SPEED,
            text=f"up to {len(cards)} × the pictures of a queue",
            certainty=Certainty.REASONED,
            source="jobs share nothing but the disk and the processor",
            times=len(cards),
        ),
        fix=Fix(
            text="Name the cards that the server may use; leave out one that games or the display need.",
            command=f"hayate serve --devices {devices}",
            actions=(Action(job=Job.WRITE_SETTING, subject="devices", value=devices),),
            is_asked_for=True,
        ),
    )


def _limited(card: Card) -> float:
    """The power limit as a share of the default; 1 where either is unknown."""
    if not card.power_limit_w or not card.power_default_w:
        return 1.0
    return card.power_limit_w / card.power_default_w


def _is_narrow(card: Card) -> bool:
    if card.pcie_lanes is None:
        return False
    return card.pcie_lanes <= 4 or (card.pcie_lanes_max or 0) >= 4 * card.pcie_lanes


def _held_share(card: Card) -> float:
    return (card.used_bytes or 0) / card.memory_bytes if card.memory_bytes else 0.0
