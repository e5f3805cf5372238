"""A model converted to another file, and tried out where its numbers became narrower."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hayate.errors import HayateError
from hayate.pipeline.halved import Halved, probe_halved
from hayate.weights.convert import Conversion
from hayate.weights.narrowing import Loss, summary
from hayate.weights.rewrite import OnTensor, convert_file


@dataclass(slots=True, kw_only=True)
class Converted:
    """What is to be said of a conversion."""

    dtype: str | None
    losses: list[Loss] = field(default_factory=list)
    """What narrowing lost."""
    probed: Halved | None = None
    """What trying it out in fp16 showed."""
    problem: str = ""
    """Why it could not be tried out."""

    def lines(self) -> list[str]:
        """The same for people."""
        found = [f"in {self.dtype}, {line}" for line in summary(self.losses)]
        return found if self.probed is None else [*found, *_findings(self.probed)]


def convert_model(
    source: Path,
    target: Path,
    conversion: Conversion,
    *,
    is_probed: bool,
    on_tensor: OnTensor = lambda name: None,
) -> Converted:
    """Writes `source` as `target`; with `is_probed` the file says in which types its networks must compute.

    Raises: UsageError, OutputError, ModelFileError; then there is no `target`.
    """
    done = Converted(dtype=conversion.dtype)

    def finish(path: Path) -> dict[str, str]:
        try:
            done.probed = probe_halved(path)
        except HayateError as error:  # a part of a model, such as a VAE alone
            done.problem = error.message
            return {}
        return done.probed.metadata

    done.losses = convert_file(source, target, conversion, on_tensor=on_tensor, finish=finish if is_probed else None)
    return done


def _findings(halved: Halved) -> list[str]:
    lines = [
        f"the {part} needs {dtype}: in fp16 it makes NaN or another picture" for part, dtype in halved.safe.items()
    ]
    lines += [
        f"the {part} is not finite in any type: the file is damaged, or fp16 is too narrow" for part in halved.broken
    ]
    return lines or ["tried out in fp16: no NaN, results within 5 % of fp32's"]
