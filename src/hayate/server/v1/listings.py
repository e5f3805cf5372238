"""Lists of what there is to choose from: models, LoRAs, samplers and the rest; files are known by name only."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from hayate.prompt.styles import Style
from hayate.request import LATENT_UPSCALERS, PIXEL_UPSCALERS
from hayate.server.listings import ListedModel, Listings
from hayate.server.v1.doors import TheDesk
from hayate.server.v1.jobs import REFUSED

router = APIRouter(prefix="/v1", tags=["lists"])


async def _listings(request: Request) -> Listings:
    return request.app.state.listings


TheListings = Annotated[Listings, Depends(_listings)]


class ModelView(BaseModel):
    """A checkpoint or VAE in its folder."""

    name: str = Field(description="what request.model or request.vae takes")
    title: str = Field(description="as A1111 shows it, with the hash where it is known")
    sha256: str | None
    problem: str | None = Field(description="why it can't be used, or null")


class LoraView(BaseModel):
    """A LoRA as prompts name it: `<lora:name:1>`."""

    name: str
    alias: str
    metadata: dict[str, Any]
    problem: str | None


class EmbeddingView(BaseModel):
    """A textual inversion, which prompts name."""

    name: str
    vectors: int | None
    width: int | None
    problem: str | None


class SamplerView(BaseModel):
    """A sampler as users know it."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    aliases: list[str]
    default_schedule: str
    is_second_order: bool = Field(description="whether each step asks the model twice")
    is_sde: bool


class UpscalersView(BaseModel):
    """By what they enlarge."""

    pixels: list[str]
    latents: list[str]


class StyleView(BaseModel):
    """A named piece of prompt."""

    name: str
    prompt: str
    negative_prompt: str


@router.get("/models")
def models(listings: TheListings) -> list[ModelView]:
    """The checkpoints, the built-in one first; broken ones with the reason."""
    return [_model(each) for each in listings.models()]


@router.get("/models/{name:path}", responses=REFUSED)
async def model(name: str, desk: TheDesk) -> dict[str, Any]:
    """What a model is and holds; the worker looks into it."""
    return dict(await desk.ask("inspect", model=name))


@router.get("/vaes")
def vaes(listings: TheListings) -> list[ModelView]:
    """The separate VAEs."""
    return [_model(each) for each in listings.vaes()]


@router.get("/loras")
def loras(listings: TheListings) -> list[LoraView]:
    """The LoRAs."""
    return [
        LoraView(name=each.name, alias=each.alias, metadata=dict(each.metadata), problem=each.problem)
        for each in listings.loras()
    ]


@router.get("/embeddings")
def embeddings(listings: TheListings) -> list[EmbeddingView]:
    """The textual inversions."""
    return [
        EmbeddingView(name=each.name, vectors=each.vectors, width=each.width, problem=each.problem)
        for each in listings.embeddings()
    ]


@router.get("/upscalers")
def upscalers(listings: TheListings) -> UpscalersView:
    """What enlarges pictures, and what enlarges latents in a hires pass."""
    return UpscalersView(pixels=[*PIXEL_UPSCALERS, *listings.upscalers()], latents=list(LATENT_UPSCALERS))


@router.get("/samplers")
async def samplers() -> list[SamplerView]:
    """The samplers."""
    from hayate.samplers.catalogue import SAMPLERS  # the page must not wait for numpy

    return [SamplerView.model_validate(each) for each in SAMPLERS]


@router.get("/schedulers")
async def schedulers() -> list[str]:
    """The schedules of noise levels."""
    from hayate.samplers.sigmas import AUTOMATIC, SCHEDULES

    return [AUTOMATIC.name, *(each.name for each in SCHEDULES if each is not AUTOMATIC)]


@router.get("/styles", responses=REFUSED)
def styles(listings: TheListings) -> list[StyleView]:
    """The styles of A1111's styles.csv."""
    return [_style(each) for each in listings.styles().styles]


@router.post("/refresh", status_code=204)
def refresh(listings: TheListings) -> None:
    """Reads the folders anew; without it they are read after some seconds."""
    listings.refresh()


def _model(listed: ListedModel) -> ModelView:
    return ModelView(name=listed.name, title=listed.title, sha256=listed.sha256, problem=listed.problem)


def _style(style: Style) -> StyleView:
    return StyleView(name=style.name, prompt=style.prompt, negative_prompt=style.negative_prompt)
