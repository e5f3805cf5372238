"""What A1111's API answers, with its names. Source: A1111 v1.10.1, docs/compat.md."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Reply(BaseModel):
    """An answer; some of A1111's names begin with `model_`, which pydantic would keep to itself."""

    model_config = ConfigDict(protected_namespaces=())


class PicturesReply(Reply):
    """Of txt2img and img2img."""

    images: list[str] | None = Field(description="Files as base64, the grid first where there is one.")
    parameters: dict[str, Any] = Field(description="What was asked.")
    info: str = Field(description="A JSON text.")


class ExtrasReply(Reply):
    """Of extra-single-image."""

    image: str
    html_info: str


class ExtrasBatchReply(Reply):
    """Of extra-batch-images."""

    images: list[str]
    html_info: str


class PngInfoReply(Reply):
    """Of png-info."""

    info: str
    items: dict[str, Any]
    parameters: dict[str, Any]


class ProgressReply(Reply):
    """Of progress."""

    progress: float
    eta_relative: float
    state: dict[str, Any]
    current_image: str | None = None
    textinfo: str | None = None
    current_task: str | None = None


class InternalProgressReply(Reply):
    """Of /internal/progress."""

    active: bool
    queued: bool
    completed: bool
    progress: float | None = None
    eta: float | None = None
    live_preview: str | None = None
    id_live_preview: int | None = None
    textinfo: str | None = None


class SamplerItem(Reply):
    name: str
    aliases: list[str]
    options: dict[str, str]


class SchedulerItem(Reply):
    name: str
    label: str
    aliases: list[str] | None
    default_rho: float | None
    need_inner_model: bool | None


class UpscalerItem(Reply):
    name: str
    model_name: str | None
    model_path: str | None
    model_url: str | None
    scale: float | None


class NamedItem(Reply):
    name: str


class ModelItem(Reply):
    title: str
    model_name: str
    hash: str | None
    sha256: str | None
    filename: str
    config: str | None
    problem: str | None = Field(None, description="Why the file can't be used; not A1111's.")


class VaeItem(Reply):
    model_name: str
    filename: str
    problem: str | None = Field(None, description="Why the file can't be used; not A1111's.")


class HypernetworkItem(Reply):
    name: str
    path: str | None


class FaceRestorerItem(Reply):
    name: str
    cmd_dir: str | None


class RealesrganItem(Reply):
    name: str
    path: str | None
    scale: int | None


class StyleItem(Reply):
    name: str
    prompt: str | None
    negative_prompt: str | None


class EmbeddingItem(Reply):
    step: int | None
    sd_checkpoint: str | None
    sd_checkpoint_name: str | None
    shape: int | None
    vectors: int | None


class EmbeddingsReply(Reply):
    loaded: dict[str, EmbeddingItem]
    skipped: dict[str, EmbeddingItem]


class LoraItem(Reply):
    name: str
    alias: str
    path: str
    metadata: dict[str, Any]


class MemoryReply(Reply):
    ram: dict[str, Any]
    cuda: dict[str, Any]


class ScriptsReply(Reply):
    txt2img: list[str]
    img2img: list[str]


class ScriptArgument(Reply):
    label: str | None
    value: Any = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: list[str] | None = None


class ScriptItem(Reply):
    name: str
    is_alwayson: bool
    is_img2img: bool
    args: list[ScriptArgument]


class ExtensionItem(Reply):
    name: str
    remote: str | None
    branch: str | None
    commit_hash: str | None
    version: str | None
    commit_date: str | None
    enabled: bool


class PendingTasksReply(Reply):
    size: int
    tasks: list[str]


class QuicksettingHint(Reply):
    name: str
    label: str
