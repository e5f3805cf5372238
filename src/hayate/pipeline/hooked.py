"""What extensions do in a job: called where they may act, held to what they promise, named in what they changed.

A job on which none acts has `NOBODY`, whose tuples are empty: nothing is called and nothing is copied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from hayate.errors import Cancelled
from hayate.extensions.control import Value
from hayate.extensions.current import current
from hayate.extensions.hooks import Call, EngineCall, PictureCall, PromptTexts, Retouched, SamplingCall
from hayate.extensions.kinds import HOOKS
from hayate.extensions.session import Session
from hayate.extensions.standing import Crashed, Hook, Standing
from hayate.pipeline.lent import Door, EngineWithin, LentEngine
from hayate.pipeline.stops import Skipped
from hayate.request import TextToImage
from hayate.runtime.evidence import Evidence

if TYPE_CHECKING:
    from hayate.engines.base import Engine
    from hayate.pipeline.job import Job, Seeds
    from hayate.runtime.plan import Plan

Result = TypeVar("Result")
KINDS = tuple(name for name, kind in HOOKS.items() if not kind.is_chosen)
"""The hooks that act on every job."""
LARGEST_PX = 16384
KEY = re.compile(r"[A-Za-z][\w \-/]{1,60}")
"""A key of an infotext that is found again."""


@dataclass(slots=True, kw_only=True, eq=False)
class Hooked:
    """The hooks of one job."""

    session: Session
    values: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """By extension: what the job says to it."""
    hooks: Mapping[str, tuple[Hook, ...]] = field(default_factory=dict)
    """By kind."""
    notes: list[str] = field(default_factory=list)
    """What they had to say, and which of them failed."""
    changed: dict[str, None] = field(default_factory=dict)
    """Name and version of each that had a part in all of the job's pictures."""
    acted: set[str] = field(default_factory=set)
    """The same of those that changed anything at all."""
    lenders: list[Standing] = field(default_factory=list)
    """Those whose things the job has chosen."""

    def of(self, kind: str) -> tuple[Hook, ...]:
        return self.hooks.get(kind, ())

    def rewritten(self, texts: PromptTexts, seed: int) -> PromptTexts:
        """The prompts as the extensions rewrite them, one after the other."""
        for hook in self.of("prompts"):
            made = self._called(hook, _texts, texts, Call(**self._words(hook, seed)))
            self._name(hook, made not in (None, texts))
            texts = texts if made is None else made
        return texts

    def before_sampling(self, noise: Tensor, job: Job, seeds: Seeds) -> Tensor:
        """The unit noise that a batch begins with. Shapes: [B, 4, h, w]."""
        return self._latents("before_sampling", noise, job, seeds)

    def after_sampling(self, latents: Tensor, job: Job, seeds: Seeds) -> Tensor:
        """The latents that will be decoded. Shapes: [B, 4, h, w]."""
        return self._latents("after_sampling", latents, job, seeds)

    def engine(self, engine: Engine, plan: Plan, seed: int = 0) -> Engine:
        """The engine with those of extensions before it."""
        for hook in self.of("engines"):
            given: Any = EngineWithin(engine)
            lent = self._called(hook, _any, given, EngineCall(**self._words(hook, seed), plan=plan))
            if lent is not None and lent is not given:
                self._name(hook, True)
                door = Door(title=hook.owner.manifest.title, visit=partial(self._visited, hook))
                on_crash, again = partial(self._lost, hook), partial(self.engine, plan=plan, seed=seed)
                engine = LentEngine(engine, lent, door=door, on_crash=on_crash, again=again)
        return engine

    def retouched(self, picture: np.ndarray, call: PictureCall) -> tuple[Retouched, list[str]]:
        """A finished picture as the extensions leave it, and which of them changed it; `call` is filled in for each.

        Raises: Skipped, Cancelled.
        """
        made, names = Retouched(picture=picture), []
        for hook in self.of("pictures"):
            own = replace(call, **self._words(hook, call.seed))
            after = self._called(hook, _picture, made.picture.copy(), own)
            if after is None:
                continue
            if after.keys or not np.array_equal(after.picture, made.picture):
                names.append(hook.owner.manifest.title)
                self.acted.add(hook.owner.manifest.title)
            made = replace(after, keys={**made.keys, **after.keys})
        return made, names

    def chosen(self, kind: str, name: str) -> None:
        """Names the extension whose sampler, schedule or attention a job has chosen."""
        hook = self.session.find(kind, name)
        if hook is not None:
            self._name(hook, True)
            self.lenders.append(hook.owner)

    def evidence(self) -> tuple[Evidence, ...]:
        """What the extensions of every job were seen to do in this process."""
        owners = dict.fromkeys(hook.owner for hooks in self.hooks.values() for hook in hooks)
        return tuple(
            Evidence(
                name=f"extension {each.name}",
                requested=each.manifest.version,
                active=each.manifest.title in self.acted,
                detail=f"{each.calls} calls, {each.hook_s:.3f} s" + (f"; {each.problem}" if each.problem else ""),
            )
            for each in owners
        )

    def idle(self, kind: str, what: str) -> tuple[str, ...]:
        """Which extensions would change `what` and don't, since nobody asks them there."""
        names = dict.fromkeys(hook.owner.name for hook in self.of(kind))
        return tuple(f"the extension {name} does not act on {what}" for name in names)

    def told(self) -> tuple[str, ...]:
        """What the user should know, as far as it has happened."""
        failed = (str(Crashed(each.name, each.problem)) for each in self.lenders if each.problem)
        return tuple(dict.fromkeys((*self.notes, *failed)))

    def rows(self, titles: Iterable[str]) -> list[dict[str, Any]]:
        """The extensions of these titles, as the record has them."""
        owners = {each.manifest.title: each for each in self.session.standings if each.found.manifest is not None}
        return [
            {
                "name": owners[title].name,
                "version": owners[title].manifest.version,
                "values": dict(self.values.get(owners[title].name, {})),
            }
            for title in dict.fromkeys(titles)
        ]

    @torch.inference_mode()
    def _latents(self, kind: str, latents: Tensor, job: Job, seeds: Seeds) -> Tensor:
        for hook in self.of(kind):
            call = SamplingCall(**self._words(hook, seeds.seeds[0]), job=job, seeds=seeds.seeds)
            made = self._called(hook, partial(_like, latents), latents, call)
            self._name(hook, made is not None and made is not latents)
            latents = latents if made is None else made
        return latents

    def _called(self, hook: Hook, check: Callable[[Any], Result], *words: Any) -> Result | None:
        """What the hook gives, if `check` lets it pass; None where it fails, and then a note says so."""
        if hook.owner.problem:
            return None  # it failed earlier, which has been said
        try:
            found = self.session.load(hook)
            return self.session.call(hook, lambda: check(found(*words)), passed=(Skipped,))
        except Crashed as error:
            self._note(str(error))
            return None
        except Cancelled:
            self._note_ended(hook)
            raise

    def _visited(self, hook: Hook, work: Callable[[], Result]) -> Result:
        """Raises: Cancelled."""
        try:
            return self.session.visit(hook, work)
        except Cancelled:
            self._note_ended(hook)
            raise

    def _note_ended(self, hook: Hook) -> None:
        """Names the extension where it is its fault that the job had to be ended by force."""
        if hook.owner.problem:
            self._note(str(Crashed(hook.owner.name, hook.owner.problem)))

    def _words(self, hook: Hook, seed: int) -> dict[str, Any]:
        """What every hook is told."""
        name = hook.owner.name
        return {"values": self.values[name], "seed": seed, "note": lambda text: self._note(f"{name}: {text}")}

    def _lost(self, hook: Hook, error: BaseException) -> None:
        self._note(str(self.session.crashed(hook, error)))

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(" ".join(text.split()))

    def _name(self, hook: Hook, has_acted: bool) -> None:
        if has_acted:
            self.acted.add(hook.owner.manifest.title)
            self.changed[hook.owner.manifest.title] = None


NOBODY = Hooked(session=Session())


def hooked_for(request: TextToImage) -> Hooked:
    """The hooks that act on a request; they begin to be imported.

    Raises: UnknownName for an extension that is not there, UsageError for one that is off or a value that can't be.
    Cost: a look at the disk.
    """
    session = current()
    session.refresh()
    values, notes = session.asked_of(request.extensions)
    hooks = {kind: tuple(hook for hook in session.hooks(kind) if hook.owner.name in values) for kind in KINDS}
    if any(hooks.values()):
        session.begin()
    return Hooked(session=session, values=MappingProxyType(values), hooks=hooks, notes=list(notes))


def _any(made: Any) -> Any:
    return made


def _texts(made: Any) -> PromptTexts:
    if (
        not isinstance(made, PromptTexts)
        or not isinstance(made.prompt, str)
        or not isinstance(made.negative_prompt, str)
    ):
        raise TypeError(f"it gave {type(made).__name__} and no PromptTexts")
    return made


def _like(given: Tensor, made: Any) -> Tensor:
    """Latents that may take the place of others."""
    if not isinstance(made, Tensor):
        raise TypeError(f"it gave {type(made).__name__} and no tensor")
    if made.shape != given.shape or made.dtype != given.dtype or made.device != given.device:
        raise ValueError(f"it gave {made.dtype} {list(made.shape)} for {given.dtype} {list(given.shape)}")
    if not bool(torch.isfinite(made).all()):
        raise ValueError("it gave latents that are not finite")
    return made


def _picture(made: Any) -> Retouched:
    """A picture that may take the place of another."""
    if not isinstance(made, Retouched) or not isinstance(made.picture, np.ndarray):
        raise TypeError(f"it gave {type(made).__name__} and no Retouched")
    shape = made.picture.shape
    is_sized = len(shape) == 3 and shape[2] == 3 and min(shape[:2]) > 0 and max(shape[:2]) <= LARGEST_PX
    if made.picture.dtype != np.uint8 or not is_sized:
        raise ValueError(f"it gave a picture of {made.picture.dtype} {list(shape)}")
    keys = {str(key): value if isinstance(value, int | float) else str(value) for key, value in made.keys.items()}
    if wrong := [key for key in keys if not KEY.fullmatch(key)]:
        raise ValueError(f"it gave the key {wrong[0]!r}, which no infotext can have")
    return Retouched(picture=np.ascontiguousarray(made.picture), keys=keys)
