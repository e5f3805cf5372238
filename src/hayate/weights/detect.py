"""What a checkpoint is, told from the names and shapes of its tensors; the file's name is never asked.

Shapes leave some things open. Norm groups and head counts follow the published families unless the file's own header
declares others (see `declared`). What the U-Net predicts is told, the first that applies, by

1. the caller;
2. `hayate.config` in the header;
3. the marker tensor `v_pred` (its companion `ztsnr` says that the noise schedule ends at zero signal);
4. `modelspec.prediction_type` in the header, or a `modelspec.architecture` that ends in `-v`;
5. for a plain SD2 U-Net only, the spread of one bias: above 0.09 in models trained on v, below it in the others;
6. and it is ε otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hayate.errors import RefusedFormat, TensorMismatch
from hayate.models import config as models
from hayate.models.config import Family, ModelConfig, Prediction, TextConfig, TextLayout, UNetConfig, VAEConfig
from hayate.weights.architecture import part_of, read_text, read_unet, read_vae
from hayate.weights.declared import KEY, read_declared, under
from hayate.weights.foreign import foreign
from hayate.weights.header import TensorInfo

if TYPE_CHECKING:
    from torch import Tensor

    from hayate.weights.read import Checkpoint

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."

_SDXL_REFINER = ModelConfig(
    family=Family.SDXL_REFINER,
    unet=models.SDXL_REFINER_UNET,
    vae=models.SDXL.vae,
    text=(replace(models.SDXL_OPEN_CLIP_G, prefix="conditioner.embedders.0.model."),),
    native_size_px=1024,
)
# The oldest SD1 files, and some merges, leave out the `text_model.` of later versions of transformers.
_SD1_OLD_NAMES = replace(models.SD1, text=(replace(models.CLIP_L, prefix="cond_stage_model.transformer."),))
PUBLISHED: Mapping[Family, ModelConfig] = MappingProxyType(
    {config.family: config for config in (models.SDXL, _SDXL_REFINER, models.SD2, models.SD1)}
)
"""What each family is known for; a file's own shapes take the place of these."""

_FIRST_TENSOR = {
    TextLayout.CLIP: "embeddings.token_embedding.weight",
    TextLayout.OPEN_CLIP: "token_embedding.weight",
}


def detect(
    tensors: Mapping[str, TensorInfo],
    metadata: Mapping[str, str],
    *,
    source: str = "the file",
    peek: Callable[[str], Tensor] | None = None,
    prediction: Prediction | None = None,
) -> ModelConfig:
    """The architecture of the checkpoint with these tensors.

    `peek` reads one small tensor, which only SD2 needs (rule 5 above); `prediction` overrides what is detected.

    Raises: RefusedFormat for anything that is no SD1, SD2 or SDXL checkpoint, saying what it seems to be;
    TensorMismatch where a tensor that tells the architecture is missing or odd; BrokenFile for a bad declaration.
    """
    published = _published(tensors, source)
    declared = read_declared(metadata, source)
    unet = _declared_unet(read_unet(part_of(tensors, UNET_PREFIX, source), published.unet), declared)
    vae = part_of(tensors, VAE_PREFIX, source)
    config = replace(
        published,
        unet=unet,
        vae=replace(read_vae(vae, published.vae) if vae.shapes else published.vae, **under(declared, "vae.")),
        text=tuple(
            replace(_read_text(tensors, text, source), **under(declared, f"text.{index}."))
            for index, text in enumerate(published.text)
        ),
    )
    _refuse_variants(config, tensors, source)
    _check_divisions(config, source)
    evidence = _Evidence(tensors=tensors, metadata=metadata, declared=declared, peek=peek)
    return _with_prediction(config, prediction or evidence.prediction(config), evidence)


def detect_checkpoint(checkpoint: Checkpoint, *, prediction: Prediction | None = None) -> ModelConfig:
    """The architecture of an opened checkpoint; see `detect`."""
    return detect(
        checkpoint.tensors,
        checkpoint.metadata,
        source=str(checkpoint.path),
        peek=checkpoint.get,
        prediction=prediction,
    )


def detect_vae(
    tensors: Mapping[str, TensorInfo],
    metadata: Mapping[str, str] | None = None,
    *,
    source: str = "the file",
    scale: float = models.SD1.vae.scale,
) -> VAEConfig:
    """The architecture of the VAE in a checkpoint or in a file of its own.

    `scale` is that of the U-Net the VAE is used with, for SD1's and SDXL's VAEs have the same shapes.
    """
    part = part_of(tensors, vae_prefix(tensors), source)
    if not part.shapes and UNET_PREFIX + "input_blocks.0.0.weight" in tensors:
        raise RefusedFormat(f"{source} has no VAE of its own", hint="choose a VAE file beside it")
    if "decoder.conv_in.weight" not in part:
        raise foreign(tensors, source)
    declared = under(read_declared(metadata or {}, source), "vae.")
    return replace(read_vae(part, VAEConfig(scale=scale)), **declared)


def vae_prefix(tensors: Mapping[str, TensorInfo]) -> str:
    """Where a VAE's tensors start: nowhere special in a file of its own."""
    return "" if "decoder.conv_in.weight" in tensors else VAE_PREFIX


def detect_family(tensors: Mapping[str, TensorInfo], *, source: str = "the file") -> Family:
    """Only the family, for lists of many files.

    Raises: RefusedFormat as `detect` does.
    """
    return _published(tensors, source).family


def _published(tensors: Mapping[str, TensorInfo], source: str) -> ModelConfig:
    """The published model whose networks carry the same names."""
    if UNET_PREFIX + "input_blocks.0.0.weight" in tensors:
        for config in (*PUBLISHED.values(), _SD1_OLD_NAMES):
            if all(text.prefix + _FIRST_TENSOR[text.layout] in tensors for text in config.text):
                return config
    raise foreign(tensors, source)


def _read_text(tensors: Mapping[str, TensorInfo], like: TextConfig, source: str) -> TextConfig:
    text = read_text(part_of(tensors, like.prefix, source), like)
    if like.prefix.startswith("conditioner.") and like.projection_width and not text.projection_width:
        raise TensorMismatch(f"{source}: tensor {like.prefix + 'text_projection'!r} is missing", hint="SDXL needs it")
    if text.prefix == models.OPEN_CLIP_H.prefix and text.width == 1024 and text.depth == 23:
        # Conversions leave out SD2's last block, which the context never passes through.
        return replace(text, skip=1)
    return text


def _declared_unet(unet: UNetConfig, declared: Mapping[str, Any]) -> UNetConfig:
    fields = under(declared, "unet.")
    if "heads" in fields:
        fields["head_width"] = 0
    elif "head_width" in fields:
        fields["heads"] = 0
    return replace(unet, **fields)


def _refuse_variants(config: ModelConfig, tensors: Mapping[str, TensorInfo], source: str) -> None:
    """Refuses relatives that would load and draw nonsense."""
    unet = config.unet
    if "edm_mean" in tensors or "edm_vpred.sigma_max" in tensors:
        raise RefusedFormat(
            f"{source} is an EDM model (Playground v2.5, CosXL), whose noise levels are not those of Stable Diffusion",
            hint="use an ε or v model",
        )
    has_vector = config.family in {Family.SDXL, Family.SDXL_REFINER}
    if has_vector != (unet.vector_width > 0) or UNET_PREFIX + "label_emb.weight" in tensors:
        raise RefusedFormat(
            f"{source}: the U-Net is conditioned on something else than its text encoders give (unCLIP, ×4 upscaler)",
            hint="use a text-to-image model",
        )
    latents = unet.out_channels
    if unet.in_channels not in {latents, 2 * latents, 2 * latents + 1}:
        raise RefusedFormat(
            f"{source}: the U-Net takes {unet.in_channels} channels, as depth and upscaling models do",
            hint="text-to-image (4), pix2pix (8) and inpainting (9) models are known",
        )


def _check_divisions(config: ModelConfig, source: str) -> None:
    """Checks the widths against heads and norm groups, and the text encoders against the U-Net's context."""
    unet, vae = config.unet, config.vae
    widths = [unet.channels * multiplier for multiplier in unet.multipliers]
    attended = [width for width, depth in zip(widths, unet.transformer_depths, strict=True) if depth]
    attended += widths[-1:] if unet.middle_depth else []
    faults = (
        (any(width % unet.norm_groups for width in widths), f"{unet.norm_groups} norm groups", "unet.norm_groups"),
        (any(width % (unet.heads or unet.head_width) for width in attended), "its attention heads", "unet.heads"),
        (vae.channels % vae.norm_groups, f"{vae.norm_groups} norm groups", "vae.norm_groups"),
        *((text.width % text.heads, "its attention heads", f"text.{n}.heads") for n, text in enumerate(config.text)),
    )
    for is_fault, what, key in faults:
        if is_fault:
            message = f"{source}: a width of the {key.split('.')[0]} network can't be divided by {what}"
            raise RefusedFormat(message, hint=f"an unusual model declares {key} under {KEY} in its header")
    if (context := sum(text.width for text in config.text)) != unet.context_width:
        message = f"{source}: the U-Net wants a context of width {unet.context_width}, the text encoders give {context}"
        raise RefusedFormat(message, hint="the file is a mix of parts that don't belong together")


_SD2_BIAS = UNET_PREFIX + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
_SD2_BIAS_SPREAD = 0.09


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """All that can tell what a U-Net predicts."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    declared: Mapping[str, Any]
    peek: Callable[[str], Tensor] | None

    def prediction(self, config: ModelConfig) -> Prediction:
        if "prediction" in self.declared:
            return Prediction(self.declared["prediction"])
        if "v_pred" in self.tensors:
            return Prediction.V
        kind = self.metadata.get("modelspec.prediction_type", "")
        if kind in {"epsilon", "v", "v_prediction"}:
            return Prediction.EPSILON if kind == "epsilon" else Prediction.V
        if self.metadata.get("modelspec.architecture", "").endswith("-v"):
            return Prediction.V
        is_wide = config.family is Family.SD2 and config.unet.in_channels == 4 and self._bias_is_wide()
        return Prediction.V if is_wide else Prediction.EPSILON

    def _bias_is_wide(self) -> bool:
        """Source: ComfyUI behaviour; published SD2 weights fall on either side."""
        if self.peek is None or _SD2_BIAS not in self.tensors:
            return False
        return self.peek(_SD2_BIAS).float().std(correction=0).item() > _SD2_BIAS_SPREAD


def _with_prediction(config: ModelConfig, prediction: Prediction, evidence: _Evidence) -> ModelConfig:
    native_size_px = config.native_size_px
    if config.family is Family.SD2 and prediction is Prediction.V:
        native_size_px = 768
    declared = evidence.declared
    return replace(
        config,
        prediction=prediction,
        is_zero_terminal_snr=declared.get("is_zero_terminal_snr", "ztsnr" in evidence.tensors),
        native_size_px=declared.get("native_size_px", native_size_px),
    )
