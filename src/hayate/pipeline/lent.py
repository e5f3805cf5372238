"""An extension's engine before our own: used until it fails, and then no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hayate.engines.base import Engine, Part
from hayate.engines.reuse import DeepFeatures
from hayate.errors import Cancelled
from hayate.extensions.inside import inside
from hayate.models.clip import Inserted, TextEncoding
from hayate.models.config import ModelConfig
from hayate.pipeline.guards import is_out_of_memory
from hayate.runtime.evidence import Evidence
from hayate.runtime.precision import Precision

OnCrash = Callable[[BaseException], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Door:
    """The way into an extension."""

    title: str
    visit: Callable[[Callable[[], Any]], Any]
    """Gives what a call gives, and can be ended from outside. Raises: Cancelled."""


class EngineWithin:
    """`engines.base.Engine`: ours, as extensions are given it. While it is at work nothing is thrown into it."""

    def __init__(self, own: Engine) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._own, name)
        return partial(inside.ours, found) if callable(found) else found


class LentEngine:
    """`engines.base.Engine`: each call goes to the extension's engine; where that raises, ours does it from then on.

    That memory does not suffice is no failure of its: whoever asks answers that with a smaller plan.
    """

    def __init__(
        self, own: Engine, lent: Engine, *, door: Door, on_crash: OnCrash, again: Callable[[Engine], Engine]
    ) -> None:
        """`again` puts the extension's engine before another one of ours."""
        self._own, self._lent = own, lent
        self._door, self._on_crash, self._again = door, on_crash, again
        self._calls = 0
        self._has_failed = False

    @property
    def config(self) -> ModelConfig:
        return self._own.config

    @property
    def device(self) -> torch.device:
        return self._own.device

    @property
    def precision(self) -> Precision:
        return self._own.precision

    def widen(self, part: Part, dtype: torch.dtype) -> Engine:
        wide = self._own.widen(part, dtype)
        return wide if self._has_failed else self._again(wide)

    def evidence(self) -> Sequence[Evidence]:
        detail = f"{self._calls} calls" + (", then it failed" if self._has_failed else "")
        mine = Evidence(
            name="engine of an extension", requested=self._door.title, active=self._calls > 0, detail=detail
        )
        return (*self._own.evidence(), mine)

    def encode_text(
        self, encoder: int, ids: Tensor, skip: int | None, inserted: Inserted | None = None
    ) -> TextEncoding:
        return self._ask("encode_text", encoder, ids, skip, inserted)

    def project_times(self, timesteps: Tensor, vector: Tensor | None) -> Tensor:
        return self._ask("project_times", timesteps, vector)

    def project_context(self, context: Tensor) -> Sequence[Tensor]:
        return self._ask("project_context", context)

    def predict(
        self, x: Tensor, times: Tensor, contexts: Sequence[Tensor], features: DeepFeatures | None = None
    ) -> Tensor:
        return self._ask("predict", x, times, contexts, *(() if features is None else (features,)))

    def encode(self, pixels: Tensor) -> Tensor:
        return self._ask("encode", pixels)

    def decode(self, latents: Tensor) -> Tensor:
        return self._ask("decode", latents)

    def _ask(self, name: str, *words: Any) -> Any:
        if self._has_failed:
            return getattr(self._own, name)(*words)
        try:
            answer = self._door.visit(lambda: getattr(self._lent, name)(*words))
        except Cancelled:
            raise
        except Exception as error:  # the door of extensions: whatever theirs raises ends here
            if is_out_of_memory(error):
                raise
            self._has_failed = True
            self._on_crash(error)
            return getattr(self._own, name)(*words)
        self._calls += 1
        return answer
