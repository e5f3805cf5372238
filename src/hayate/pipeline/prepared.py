"""A request with everything decided before a model is loaded: files, job and plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import torch

from hayate.engines.tiny import check_tiny
from hayate.errors import MissingDependency, UsageError
from hayate.extensions.hooks import PromptTexts
from hayate.models.config import ModelConfig
from hayate.pipeline.canvas import canvas_size
from hayate.pipeline.enlarge import enlarger_of
from hayate.pipeline.hooked import NOBODY, Hooked, hooked_for
from hayate.pipeline.infotext import RECIPE_KEY
from hayate.pipeline.inversions import NOTHING
from hayate.pipeline.job import Job
from hayate.pipeline.noise import resolve_source
from hayate.pipeline.pictures import InMemory, read_picture, read_start
from hayate.pipeline.players import Player, model_paths, players_of, read_configs
from hayate.pipeline.refine import Role
from hayate.pipeline.resolve import check_names, drawn_seed, resolve, styled, upscaler_file
from hayate.pipeline.tiles import check_tile
from hayate.pipeline.workspace import Workspace
from hayate.request import TextToImage, validate
from hayate.runtime.asked import Asked
from hayate.runtime.device import Device, resolve_device
from hayate.runtime.facts import Facts, gather_facts
from hayate.runtime.memory import Work
from hayate.runtime.plan import Choice, Plan, resolve_plan
from hayate.runtime.profiles import Profile, Slot, is_open, load_profile, other_cards, slot_for, versions_of
from hayate.settings import Settings
from hayate.weights.folders import find_model
from hayate.weights.merged import MergedModel, ModelSource

_TITLES: Mapping[Role, str] = MappingProxyType({"hires": "Hires checkpoint", "refiner": "Refiner"})
"""A1111's keys for the models beside the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The model files of a job, found, and the hashes that are still being computed."""

    model: ModelSource
    vae: Path | None
    hashes: Mapping[str, Future[str]]
    loras: Mapping[str, Future[str]] = field(default_factory=dict)
    """The hashes of the LoRAs by their names in the prompt."""
    embeddings: Mapping[str, Future[str]] = field(default_factory=dict)
    """The hashes of the textual inversions by their names."""
    others: Mapping[Role, ModelSource] = field(default_factory=dict)
    """The files of the other models, by their part in the job."""

    @property
    def models(self) -> dict[Role, ModelSource]:
        """The files of all models."""
        return {"base": self.model, **self.others}

    def keys(self) -> dict[str, str]:
        """The infotext's keys for the files; waits for the hashes.

        Source: A1111 behaviour; names of LoRAs and embeddings lose what would part the list.
        """
        keys = {"Model hash": self.hashes["model"].result(), "Model": self.model.stem}
        if isinstance(self.model, MergedModel) and self.model.text != self.model.stem:
            keys[RECIPE_KEY] = self.model.text
        if self.vae is not None:
            keys |= {"VAE hash": self.hashes["vae"].result(), "VAE": self.vae.name}
        for role, path in self.others.items():
            title = path.text if isinstance(path, MergedModel) else path.stem
            keys[_TITLES[role]] = f"{title} [{self.hashes[role].result()}]"
        for title, hashes in (("Lora hashes", self.loras), ("TI hashes", self.embeddings)):
            if hashes:
                named = ((name.replace(":", "").replace(",", ""), hash.result()) for name, hash in hashes.items())
                keys[title] = ", ".join(f"{name}: {digits}" for name, digits in named)
        return keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request with everything decided: what to make, from which files, and how to compute it."""

    job: Job
    plan: Plan
    files: Files
    config: ModelConfig
    players: Mapping[Role, Player]
    """The models by their parts in the job; one that has no part is not there."""
    noise_reason: str
    """Why the noise is drawn where it is, if not because it was asked for."""


def prepare_request(
    request: TextToImage,
    settings: Settings,
    asked: Asked | None,
    workspace: Workspace,
    *,
    instead: InMemory | None = None,
    hooked: Hooked | None = None,
) -> Prepared:
    """Decides everything that a request leaves open; hashing of its files begins.

    `instead` is a picture to start from in place of the request's; `hooked` are the extensions that act, in place of
    those that the request asks for.
    Raises: HayateError for whatever can be wrong with it, before any model is loaded.
    """
    validate(request)
    check_names(request, settings)
    hooked = hooked_for(request) if hooked is None else hooked
    request = rewritten_request(request, settings, hooked)
    files = find_files(request, settings, workspace)
    decided = _decide(request, settings, asked, files.models)
    job, plan, start = decided.job, decided.plan, decided.job.request.start
    if start is not None:
        job = job.with_start(read_start(start, job.width_px, job.height_px, instead))
    players, notes = players_of(job, files.models, decided.configs)
    loras = {use.name: use.path for player in players.values() for use in player.loras}
    inverted = job.style.inverted.joined(NOTHING if job.second is None else job.second.style.inverted)
    files = replace(
        files,
        loras={name: workspace.lora_hash_of(path) for name, path in loras.items()},
        embeddings={name: workspace.embedding_hash_of(path) for name, path in inverted.items()},
    )
    job = replace(job, notes=(*job.notes, *notes))
    if job.second is not None and job.second.hires is not None:
        upscaler = upscaler_file(job.second.hires.upscaler, settings)
        if upscaler is not None:
            job = job.with_enlarger(enlarger_of(workspace.upscaler(upscaler), settings))
    if hooked is not NOBODY:
        name_chosen(hooked, job, plan)
        job = job.with_hooked(hooked)
    source, why = resolve_source(job.noise_source, plan.device.torch)
    job = job.with_noise_source(source, why if request.noise_source else "").with_approximate(plan.approximate)
    if plan.approximate.tiny_vae is not None:
        check_tiny(plan.approximate.tiny_vae)
    if plan.vae_tile_px is not None:
        check_tile(plan.vae_tile_px)
    return Prepared(job=job, plan=plan, files=files, config=decided.configs["base"], players=players, noise_reason=why)


def plan_request(request: TextToImage, settings: Settings, asked: Asked) -> Plan:
    """The plan that `make_pictures` would follow.

    Raises: HayateError.
    """
    return _decide(request, settings, asked, model_paths(request, settings)).plan


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decided:
    configs: Mapping[Role, ModelConfig]
    job: Job
    plan: Plan


def _decide(
    request: TextToImage, settings: Settings, asked: Asked | None, paths: Mapping[Role, ModelSource]
) -> _Decided:
    """What is made, and how it is computed, as far as no file but the models' headers says.

    The number of threads is set first, since a tuned profile is for one.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = resolve_device(request.device or settings.device)
    configs = read_configs(paths)
    job = resolve(
        sized_by_start(request),
        settings,
        configs["base"],
        hires=configs.get("hires"),
        refiner=configs.get("refiner"),
    )
    if paths.keys() > configs.keys():
        note = "the refiner does not act: it is the model that it would take over from"
        job = replace(job, notes=(*job.notes, note))
    plan = plan_job(asked_with(asked, request, settings), device, tuple(configs.values()), job, settings.data_dir)
    return _Decided(configs=configs, job=job, plan=plan)


def rewritten_request(request: TextToImage, settings: Settings, hooked: Hooked) -> TextToImage:
    """The request with the prompts that extensions make of its own, styles applied; its seed is drawn for them.

    Raises: UsageError.
    """
    if not hooked.of("prompts"):
        return request
    request, notes = styled(request, settings)
    hooked.notes += notes
    seed = drawn_seed(request.seed)
    texts = hooked.rewritten(PromptTexts(prompt=request.prompt, negative_prompt=request.negative_prompt), seed)
    request = replace(request, seed=seed, prompt=texts.prompt, negative_prompt=texts.negative_prompt)
    again = request.hires
    if again is None or (again.prompt is None and again.negative_prompt is None):
        return request
    own = PromptTexts(
        prompt=texts.prompt if again.prompt is None else again.prompt,
        negative_prompt=texts.negative_prompt if again.negative_prompt is None else again.negative_prompt,
    )
    made = hooked.rewritten(own, seed)
    hires = replace(
        again,
        prompt=None if again.prompt is None else made.prompt,
        negative_prompt=None if again.negative_prompt is None else made.negative_prompt,
    )
    return replace(request, hires=hires)


def name_chosen(hooked: Hooked, job: Job, plan: Plan) -> None:
    """Names the extensions whose samplers, schedules and attention a job uses."""
    for each in (job, job.second):
        if each is not None:
            hooked.chosen("samplers", each.sampler.name)
            hooked.chosen("schedules", each.table.schedule)
    hooked.chosen("attention", plan.attention.backend.name)


def sized_by_start(request: TextToImage) -> TextToImage:
    """The request at the size of the picture that it starts from, unless it asks for one.

    Raises: UsageError.
    """
    if request.start is None or (request.width_px and request.height_px):
        return request
    picture = read_picture(Path(request.start.path))
    is_extended = any(request.start.extend_px)
    size = canvas_size(picture.size, request.start.extend_px) if is_extended else picture.size
    width_px, height_px = (min(4096, max(64, round(side / 8) * 8)) for side in size)
    return replace(request, width_px=request.width_px or width_px, height_px=request.height_px or height_px)


def check_request(request: TextToImage, settings: Settings, asked: Asked) -> None:
    """Looks for everything that can be wrong with a request, without hashing or loading its files.

    Raises: HayateError.
    """
    validate(request)
    check_names(request, settings)
    if request.vae is not None:
        find_model(request.vae, settings.vae_dir)
    plan_request(request, settings, asked)


def asked_with(asked: Asked | None, request: TextToImage, settings: Settings) -> Asked:
    """What was asked for, completed by the request and the settings."""
    asked = asked or Asked()
    return replace(
        asked,
        dtype=_wanted(request.dtype or asked.dtype, settings.dtype),
        attention=_wanted(asked.attention, None if asked.wished_attention else settings.attention),
        compile=asked.compile or (None if settings.compile == "off" else settings.compile),
        offload=_wanted(asked.offload, settings.offload),
        promise=asked.promise or (None if settings.promise == "exact" else settings.promise),
    )


def _wanted(asked: str | None, setting: str | None) -> str | None:
    """None where both leave it open."""
    value = asked or setting
    return None if value == "auto" else value


def plan_job(asked: Asked, device: Device, configs: Sequence[ModelConfig], job: Job, data_dir: Path) -> Plan:
    """The plan for a job: what was tuned for such work, where nothing else is asked for, else what the facts suggest.

    `configs` are the job's models, of which one at a time is at work: the first, and perhaps others.
    Raises: UnknownName, UsageError, MissingDependency.
    """
    facts, work = gather_facts(device), work_of(job)
    promise = asked.promise or "exact"
    slot = slot_for(device, configs[0], (job.width_px, job.height_px), promise)
    profile, used, reason = find_profile(asked, device, slot, data_dir)
    if profile is not None:
        kept = {"promise": asked.promise, "checks_nan": asked.checks_nan, "offload": asked.offload}
        tuned = replace(profile.asked, **kept, is_offload_for_sdxl=asked.is_offload_for_sdxl)
        try:
            plan = plan_for_all(replace(tuned, notes=(*asked.notes, f"profile: {reason}")), facts, configs, work)
        except (UsageError, MissingDependency) as error:
            used, reason = "not used", f"what was tuned can't be had any more: {error.message}"
            asked = replace(asked, notes=(*asked.notes, f"profile {used}: {reason}"))
        else:
            return plan.with_choice(Choice(name="profile", value=used, reason=reason))
    elif used == "stale":
        asked = replace(asked, notes=(*asked.notes, f"the tuned profile is stale: {reason}"))
    return plan_for_all(asked, facts, configs, work).with_choice(Choice(name="profile", value=used, reason=reason))


def plan_for_all(asked: Asked, facts: Facts, configs: Sequence[ModelConfig], work: Work) -> Plan:
    """The plan of the model that takes the most memory, which all of them can follow.

    Raises: UnknownName, UsageError, MissingDependency for what one of them can't do.
    """
    plans = [resolve_plan(asked, facts, config, work) for config in dict.fromkeys(configs)]
    return max(plans, key=lambda plan: plan.forecast.peak_bytes("none"))


def find_profile(asked: Asked, device: Device, slot: Slot, data_dir: Path) -> tuple[Profile | None, str, str]:
    """The profile to follow, if there is one; in a word what becomes of it; and why."""
    if asked.ignores_profile:
        return None, "not used", "asked for"
    if not is_open(asked):
        return None, "not used", "something else is asked for"
    profile = load_profile(slot, data_dir)
    if profile is None:
        others = other_cards(slot, data_dir)
        return None, "none", f"tuned for {', '.join(others)}; hayate tune" if others else "hayate tune finds what wins"
    if stale := profile.staleness(versions_of(device, profile.asked)):
        return None, "stale", f"{stale}; hayate tune makes it anew"
    return profile, "used", f"tuned on {profile.at[:10]}, {profile.title}"


def work_of(job: Job) -> Work:
    """What the U-Net and the VAE are given at once."""
    is_guided = job.cfg != 1
    return Work(
        inputs=job.batch_size * (2 if is_guided else 1),
        images=1,
        height_px=max(each.height_px for each in (job, job.second) if each is not None),
        width_px=max(each.width_px for each in (job, job.second) if each is not None),
    )


def find_files(request: TextToImage, settings: Settings, workspace: Workspace) -> Files:
    """The files that the request's names mean; their hashes begin to be computed.

    Raises: UnknownName, UsageError.
    """
    paths = model_paths(request, settings)
    model = paths.pop("base")
    vae = None if request.vae is None else find_model(request.vae, settings.vae_dir)
    found: dict[str, ModelSource] = {"model": model, **({} if vae is None else {"vae": vae}), **paths}
    hashes = {part: workspace.hash_of(path) for part, path in found.items()}
    return Files(model=model, vae=vae, hashes=hashes, others=paths)
