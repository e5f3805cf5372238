"""The models of a job, of which one at a time is the guard's engine: loaded, put in place, and mended for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from hayate.engines.base import Engine, Part
from hayate.errors import EngineError
from hayate.pipeline.guards import Guard, Shortage, attempt, free_memory
from hayate.pipeline.players import Player
from hayate.pipeline.prepared import Prepared
from hayate.pipeline.refine import Role
from hayate.pipeline.safe_types import SafeTypes
from hayate.pipeline.workspace import Workspace
from hayate.runtime.compile.spec import Mode
from hayate.runtime.plan import Plan
from hayate.runtime.precision import Precision
from hayate.settings import Settings
from hayate.weights.learnt_types import FILE_NAME
from hayate.weights.merged import ModelSource


class Cast:
    """Gives the guard of a job's first model, and puts the others in its place when their turn comes.

    What a model was mended to is kept for its next turn, and so is a plan that was lowered.
    """

    def __init__(self, prepared: Prepared, settings: Settings, workspace: Workspace) -> None:
        self._players = prepared.players
        self._vae = prepared.files.vae
        self._plan = prepared.plan
        self._workspace = workspace
        self._memory = settings.cache_dir / FILE_NAME
        self._types: dict[Player, Precision] = {}
        self._here = self._players["base"]
        self._hooked, self._seed = prepared.job.hooked, prepared.job.seed

    def open(self) -> Guard:
        """The first model's engine as the plan wants it, behind its guard, in types that are known or found to be safe.

        Raises: ModelFileError, EngineError.
        """
        plan = self._plan
        precision, notes = self._safe_types(self._here)
        guard = Guard(engine=self._engine(self._here, precision), checks_nan=plan.checks_nan, notes=notes)
        guard.offload, guard.enter = self._offloaded, lambda role: self._enter(guard, role)
        guard.is_overlapping = plan.offload == "none"
        guard.tile_px, guard.inputs_at_once = plan.vae_tile_px, plan.inputs_at_once
        self._settle(guard)
        return guard

    def resume(self, guard: Guard) -> None:
        """Puts the model at work back in place, after another job has used the workspace.

        Raises: ModelFileError, EngineError.
        """
        guard.engine = self._engine(self._here, guard.precision)

    def _enter(self, guard: Guard, role: Role) -> None:
        """Puts the model of `role` in place, with its LoRAs; nothing is done where it is there.

        Raises: ModelFileError, EngineError.
        """
        player = self._players.get(role, self._players["base"])
        if player == self._here:
            return
        self._types[self._here] = guard.precision
        known, notes = self._types.get(player), ()
        if (precision := known) is None:
            precision, notes = self._safe_types(player)
        engine = attempt(lambda: self._asked(player, precision))
        if isinstance(engine, Shortage):  # where both do not fit, the one goes before the other comes
            device = guard.device
            del guard.engine
            self._workspace.clear()
            free_memory(device)
            engine = self._engine(player, precision)
        guard.engine, self._here = engine, player
        _add(guard, notes)
        if known is None:
            self._settle(guard)

    def _settle(self, guard: Guard) -> None:
        """What is done at a model's first turn."""
        guard.on_widened = self._safe(self._here).keep
        _add(guard, self._workspace.lora_notes())
        if self._plan.checks_nan:
            guard.probe_vae()

    def _engine(self, player: Player, precision: Precision) -> Engine:
        """Raises: ModelFileError; EngineError where memory does not suffice."""
        engine = attempt(lambda: self._asked(player, precision))
        if not isinstance(engine, Shortage):
            return engine
        self._workspace.clear()
        plan = self._plan
        needed = f"about {plan.forecast.peak_bytes(plan.offload) / 2**30:.1f} GiB are needed"
        message = f"out of memory while loading {player.model.name}: {engine.reason}"
        raise EngineError(message, hint=f"{needed}; {_less_memory(plan)}")

    @torch.inference_mode(mode=False)  # the loop asks too, and weights made in its mode could not be edited
    def _asked(self, player: Player, precision: Precision) -> Engine:
        engine = self._workspace.engine(player.model, self._vae, self._plan, precision, loras=player.loras)
        return self._hooked.engine(engine, self._plan, self._seed) if self._hooked.of("engines") else engine

    def _offloaded(self, precision: Precision) -> Engine | None:
        """The engine with its weights waiting on the host, where there is one beside the device and they are not yet.

        Two steps at once: a network that does not fit beside the others seldom fits beside its own blocks either, and
        this is done in the middle of a picture.
        """
        if self._plan.offload != "none" or self._plan.device.torch.type in ("cpu", "mps"):
            return None
        self._plan = replace(self._plan, offload="lowvram", compile=Mode.OFF)
        return self._asked(self._here, precision)

    def _safe(self, player: Player) -> SafeTypes:
        files: dict[Part, ModelSource] = {"unet": player.model, "text": player.model, "vae": self._vae or player.model}
        return SafeTypes(path=self._memory, files=files)

    def _safe_types(self, player: Player) -> tuple[Precision, list[str]]:
        plan = self._plan
        return self._safe(player).applied_to(plan.precision) if plan.checks_nan else (plan.precision, [])


def _add(guard: Guard, notes: Sequence[str]) -> None:
    guard.notes += [note for note in notes if note not in guard.notes]


def _less_memory(plan: Plan) -> str:
    """What a person can do about a model that does not fit."""
    is_movable = plan.device.torch.type == "cuda" and plan.offload != "lowvram"
    return "try --lowvram, or --device cpu" if is_movable else "close what else uses memory, or take a smaller model"
