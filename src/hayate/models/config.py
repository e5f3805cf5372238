"""What the networks are: one frozen record per network, and the published families as literals."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Family(StrEnum):
    """The architectures that Hayate knows, told apart by tensor names and shapes."""

    SD1 = "sd1"
    SD2 = "sd2"
    SDXL = "sdxl"
    SDXL_REFINER = "sdxl-refiner"


class Prediction(StrEnum):
    """What the U-Net's output stands for."""

    EPSILON = "epsilon"
    V = "v"


class TextLayout(StrEnum):
    """How a text encoder's tensors are named in the file."""

    CLIP = "clip"
    """transformers' names: `text_model.encoder.layers.0.self_attn.q_proj.weight`."""
    OPEN_CLIP = "open_clip"
    """open_clip's names: `transformer.resblocks.0.attn.in_proj_weight`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """A CLIP text encoder."""

    layout: TextLayout
    prefix: str
    """Where its tensors start in the file, with the closing dot."""
    width: int
    depth: int
    heads: int
    mlp_width: int
    is_quick_gelu: bool
    projection_width: int = 0
    """Width of the pooled projection; 0 when the file has none."""
    vocabulary: int = 49408
    positions: int = 77
    pad_id: int = 49407
    """SD1 and CLIP-L pad with the end token; open_clip's encoders with 0."""
    skip: int = 1
    """Which hidden state is the context: 1 the last, 2 the one before it."""
    has_final_norm: bool = True
    """Whether the context passes through the final layer norm (SDXL's do not)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """A latent-diffusion U-Net in the layout of the original files."""

    in_channels: int = 4
    out_channels: int = 4
    channels: int
    multipliers: tuple[int, ...]
    res_blocks: int
    transformer_depths: tuple[int, ...]
    """Transformer blocks at each level, 0 for a level without attention."""
    middle_depth: int
    context_width: int
    heads: int = 0
    """Heads at every level (SD1: 8), or 0 when `head_width` is fixed instead."""
    head_width: int = 0
    """Channels per head (SD2, SDXL: 64), or 0 when `heads` is fixed instead."""
    is_linear_projection: bool = False
    """SD2 and SDXL project in and out of a transformer with a linear layer, SD1 with a 1×1 convolution."""
    vector_width: int = 0
    """Width of SDXL's vector conditioning (2816; refiner 2560); 0 for none."""
    norm_groups: int = 32

    def heads_at(self, channels: int) -> int:
        """Number of attention heads where the feature maps have `channels` channels."""
        return self.heads or channels // self.head_width


@dataclass(frozen=True, slots=True, kw_only=True)
class VAEConfig:
    """AutoencoderKL in the layout of the original files."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    res_blocks: int = 2
    latent_channels: int = 4
    norm_groups: int = 32
    scale: float = 0.18215
    """latents = scale · encoded mean (SD1, SD2: 0.18215; SDXL: 0.13025)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A whole checkpoint: its family, its networks and what the U-Net predicts."""

    family: Family
    unet: UNetConfig
    vae: VAEConfig
    text: tuple[TextConfig, ...]
    prediction: Prediction = Prediction.EPSILON
    is_zero_terminal_snr: bool = False
    native_size_px: int = 512

    @property
    def is_inpainting(self) -> bool:
        """The U-Net takes a mask and a masked latent beside the noise (9 input channels)."""
        return self.unet.in_channels == 9


CLIP_L = TextConfig(
    layout=TextLayout.CLIP,
    prefix="cond_stage_model.transformer.text_model.",
    width=768,
    depth=12,
    heads=12,
    mlp_width=3072,
    is_quick_gelu=True,
)
OPEN_CLIP_H = TextConfig(
    layout=TextLayout.OPEN_CLIP,
    prefix="cond_stage_model.model.",
    width=1024,
    depth=24,
    heads=16,
    mlp_width=4096,
    is_quick_gelu=False,
    projection_width=1024,
    pad_id=0,
    skip=2,
)
SDXL_CLIP_L = TextConfig(
    layout=TextLayout.CLIP,
    prefix="conditioner.embedders.0.transformer.text_model.",
    width=768,
    depth=12,
    heads=12,
    mlp_width=3072,
    is_quick_gelu=True,
    skip=2,
    has_final_norm=False,
)
SDXL_OPEN_CLIP_G = TextConfig(
    layout=TextLayout.OPEN_CLIP,
    prefix="conditioner.embedders.1.model.",
    width=1280,
    depth=32,
    heads=20,
    mlp_width=5120,
    is_quick_gelu=False,
    projection_width=1280,
    pad_id=0,
    skip=2,
    has_final_norm=False,
)

SD1_UNET = UNetConfig(
    channels=320,
    multipliers=(1, 2, 4, 4),
    res_blocks=2,
    transformer_depths=(1, 1, 1, 0),
    middle_depth=1,
    context_width=768,
    heads=8,
)
SD2_UNET = UNetConfig(
    channels=320,
    multipliers=(1, 2, 4, 4),
    res_blocks=2,
    transformer_depths=(1, 1, 1, 0),
    middle_depth=1,
    context_width=1024,
    head_width=64,
    is_linear_projection=True,
)
SDXL_UNET = UNetConfig(
    channels=320,
    multipliers=(1, 2, 4),
    res_blocks=2,
    transformer_depths=(0, 2, 10),
    middle_depth=10,
    context_width=2048,
    head_width=64,
    is_linear_projection=True,
    vector_width=2816,
)
SDXL_REFINER_UNET = UNetConfig(
    channels=384,
    multipliers=(1, 2, 4, 4),
    res_blocks=2,
    transformer_depths=(0, 4, 4, 0),
    middle_depth=4,
    context_width=1280,
    head_width=64,
    is_linear_projection=True,
    vector_width=2560,
)

SD1 = ModelConfig(family=Family.SD1, unet=SD1_UNET, vae=VAEConfig(), text=(CLIP_L,))
SD2 = ModelConfig(family=Family.SD2, unet=SD2_UNET, vae=VAEConfig(), text=(OPEN_CLIP_H,))
SDXL = ModelConfig(
    family=Family.SDXL,
    unet=SDXL_UNET,
    vae=VAEConfig(scale=0.13025),
    text=(SDXL_CLIP_L, SDXL_OPEN_CLIP_G),
    native_size_px=1024,
)
