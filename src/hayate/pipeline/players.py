"""Which models a job takes: their files, what they are, and the LoRAs that go into each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hayate.engines.identity import source_id
from hayate.engines.loras import LoraUse
from hayate.errors import TensorMismatch
from hayate.models.config import ModelConfig
from hayate.pipeline.job import Job
from hayate.pipeline.refine import Role, check_space
from hayate.request import TextToImage
from hayate.settings import Settings
from hayate.weights.builtin import builtin_model
from hayate.weights.detect import detect_checkpoint
from hayate.weights.lora import read_adapter
from hayate.weights.merged import ModelSource, find_source, open_source


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """One of a job's models, and what the prompt adds to its weights."""

    model: ModelSource
    config: ModelConfig
    loras: tuple[LoraUse, ...] = ()


def model_paths(request: TextToImage, settings: Settings) -> dict[Role, ModelSource]:
    """The files, or merges, of the models that a request names; the first is the built-in one unless it names another.

    Raises: UnknownName, UsageError.
    """
    named: dict[Role, str | None] = {
        "base": request.model,
        "hires": None if request.hires is None else request.hires.model,
        "refiner": request.refiner,
    }
    built_in = builtin_model()
    paths: dict[Role, ModelSource] = {"base": built_in}
    for role, name in named.items():
        if name is not None:
            paths[role] = find_source(name, settings.models_dir, built_in, loras_dir=settings.lora_dir)
    return paths


def read_configs(paths: Mapping[Role, ModelSource]) -> dict[Role, ModelConfig]:
    """What the models are, from their headers; a refiner that is the model of its pass is left out.

    Raises: ModelFileError; UsageError for models whose latents are not those of the first.
    Cost: milliseconds.
    """
    before = paths.get("hires", paths["base"])
    is_idle = "refiner" in paths and source_id(paths["refiner"]) == source_id(before)
    configs: dict[Role, ModelConfig] = {
        role: read_config(path) for role, path in paths.items() if role != "refiner" or not is_idle
    }
    if "hires" in configs:
        check_space(configs["hires"], configs["base"], "the model of the second pass", "--hires-model")
    if "refiner" in configs:
        check_space(configs["refiner"], configs["base"], "the refiner", "--refiner")
    return configs


def players_of(
    job: Job, paths: Mapping[Role, ModelSource], configs: Mapping[Role, ModelConfig]
) -> tuple[dict[Role, Player], list[str]]:
    """The job's models with their LoRAs, and a note for each LoRA that another model than the first goes without.

    Raises: ModelFileError for a LoRA that does not fit the first model.
    """
    notes: list[str] = []
    players: dict[Role, Player] = {"base": _first(job.loras, paths, configs)}
    if job.second is not None:
        loras = job.second.loras
        is_same = "hires" not in paths
        players["hires"] = _first(loras, paths, configs) if is_same else _other("hires", loras, (paths, configs), notes)
    last = job.second or job
    if last.refined is not None:
        players["refiner"] = _other("refiner", last.loras, (paths, configs), notes)
    return players, notes


def read_config(path: ModelSource) -> ModelConfig:
    """What the checkpoint is, from its header. Cost: milliseconds."""
    with open_source(path) as checkpoint:
        return detect_checkpoint(checkpoint)


_TITLES: Mapping[Role, str] = MappingProxyType({"hires": "the second pass' model", "refiner": "the refiner"})


def _first(
    loras: tuple[LoraUse, ...], paths: Mapping[Role, ModelSource], configs: Mapping[Role, ModelConfig]
) -> Player:
    """The first model with LoRAs that all fit it."""
    for use in loras:
        read_adapter(use.path, configs["base"])
    return Player(model=paths["base"], config=configs["base"], loras=loras)


def _other(
    role: Role,
    loras: Sequence[LoraUse],
    models: tuple[Mapping[Role, ModelSource], Mapping[Role, ModelConfig]],
    notes: list[str],
) -> Player:
    """Another model with those of the LoRAs that it has places for.

    Source: A1111 behaviour: layers without a match are passed over.
    """
    path, config = models[0][role], models[1][role]
    found = []
    for use in loras:
        try:
            read_adapter(use.path, config)
        except TensorMismatch:
            notes.append(f"LoRA {use.name} is not put into {_TITLES[role]}: it is for another architecture")
        else:
            found.append(use)
    return Player(model=path, config=config, loras=tuple(found))
