"""The settings files of a diffusers folder, told from what a model is."""

from __future__ import annotations

from typing import Any

from hayate.models.config import Family, ModelConfig, Prediction, TextConfig, TextLayout

_VERSION = "0.30.0"
"""The diffusers that these settings are written for; later ones read them too."""
_TIME_WIDTH = 256
END, START = "<|endoftext|>", "<|startoftext|>"


def all_configs(config: ModelConfig) -> dict[str, dict[str, Any]]:
    """Every settings file but the tokenizers', by its path in the folder."""
    texts = zip(text_names(config), config.text, strict=True)
    return {
        "model_index.json": _index(config),
        "unet/config.json": _unet(config),
        "vae/config.json": _vae(config),
        "scheduler/scheduler_config.json": _scheduler(config),
        **{f"{name}/config.json": _text(text) for name, text in texts},
    }


def text_names(config: ModelConfig) -> tuple[str, ...]:
    """What diffusers calls the text encoders; the refiner's is always the second."""
    if config.family is Family.SDXL_REFINER:
        return ("text_encoder_2",)
    return ("text_encoder", "text_encoder_2")[: len(config.text)]


def text_depth(text: TextConfig) -> int:
    """How many blocks the context passes through; SD2's folders leave out the one after them."""
    is_cut = text.layout is TextLayout.OPEN_CLIP and text.has_final_norm and text.skip == 2
    return text.depth - 1 if is_cut else text.depth


def has_projection(text: TextConfig) -> bool:
    """Whether the pooled projection is used: SDXL's is, SD2's is not."""
    return text.layout is TextLayout.OPEN_CLIP and not text.has_final_norm


def tokenizer_configs(text: TextConfig) -> dict[str, dict[str, Any]]:
    """The settings beside a tokenizer's vocabulary."""
    pad = "!" if text.pad_id == 0 else END
    marks = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    more = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace"}
    own = {"model_max_length": text.positions, "tokenizer_class": "CLIPTokenizer"}
    return {"tokenizer_config.json": marks | more | own, "special_tokens_map.json": marks}


def _index(config: ModelConfig) -> dict[str, Any]:
    is_xl = config.family in {Family.SDXL, Family.SDXL_REFINER}
    kind = "Img2Img" if config.family is Family.SDXL_REFINER else "Inpaint" if config.is_inpainting else ""
    index: dict[str, Any] = {
        "_class_name": f"StableDiffusion{'XL' if is_xl else ''}{kind}Pipeline",
        "_diffusers_version": _VERSION,
        "scheduler": ["diffusers", _scheduler(config)["_class_name"]],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
    }
    if is_xl:
        is_refiner = config.family is Family.SDXL_REFINER
        index |= {"text_encoder": [None, None], "tokenizer": [None, None]}
        index |= {"force_zeros_for_empty_prompt": not is_refiner}
        index |= {"requires_aesthetics_score": True} if is_refiner else {}
    else:
        index |= {"safety_checker": [None, None], "requires_safety_checker": False}
    for name, text in zip(text_names(config), config.text, strict=True):
        index[name] = ["transformers", _text_class(text)]
        index[name.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    return index


def _unet(config: ModelConfig) -> dict[str, Any]:
    unet = config.unet
    widths = [unet.channels * each for each in unet.multipliers]
    depths = unet.transformer_depths
    blocks = ["CrossAttn" if depth else "" for depth in depths]
    settings: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": _VERSION,
        "act_fn": "silu",
        "attention_head_dim": unet.heads or [unet.heads_at(width) for width in widths],
        "block_out_channels": widths,
        "cross_attention_dim": unet.context_width,
        "down_block_types": [f"{block}DownBlock2D" for block in blocks],
        "up_block_types": [f"{block}UpBlock2D" for block in reversed(blocks)],
        "mid_block_type": "UNetMidBlock2DCrossAttn" if unet.middle_depth else "UNetMidBlock2D",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": unet.in_channels,
        "out_channels": unet.out_channels,
        "layers_per_block": unet.res_blocks,
        "norm_eps": 1e-05,
        "norm_num_groups": unet.norm_groups,
        "sample_size": config.native_size_px // 8,
        # A level without attention says nothing; the last entry is also that of the middle.
        "transformer_layers_per_block": [depth or max(unet.middle_depth, 1) for depth in depths],
        "use_linear_projection": unet.is_linear_projection,
    }
    if unet.vector_width:
        settings |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _TIME_WIDTH,
            "projection_class_embeddings_input_dim": unet.vector_width,
        }
    return settings


def _vae(config: ModelConfig) -> dict[str, Any]:
    vae = config.vae
    levels = len(vae.multipliers)
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": _VERSION,
        "act_fn": "silu",
        "block_out_channels": [vae.channels * each for each in vae.multipliers],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": vae.latent_channels,
        "layers_per_block": vae.res_blocks,
        "norm_num_groups": vae.norm_groups,
        "sample_size": config.native_size_px,
        "scaling_factor": vae.scale,
        "force_upcast": config.family in {Family.SDXL, Family.SDXL_REFINER},
    }


def _text(text: TextConfig) -> dict[str, Any]:
    return {
        "architectures": [_text_class(text)],
        "model_type": "clip_text_model",
        "hidden_act": "quick_gelu" if text.is_quick_gelu else "gelu",
        "hidden_size": text.width,
        "intermediate_size": text.mlp_width,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": text.positions,
        "num_attention_heads": text.heads,
        "num_hidden_layers": text_depth(text),
        "projection_dim": text.projection_width or text.width,
        "vocab_size": text.vocabulary,
        "bos_token_id": 0,
        "eos_token_id": 2,  # by which transformers knows CLIP's pooling: at the highest id
        "pad_token_id": 1,
        "attention_dropout": 0.0,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
    }


def _text_class(text: TextConfig) -> str:
    return "CLIPTextModelWithProjection" if has_projection(text) else "CLIPTextModel"


def _scheduler(config: ModelConfig) -> dict[str, Any]:
    shared: dict[str, Any] = {
        "_diffusers_version": _VERSION,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "num_train_timesteps": 1000,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "prediction_type": "v_prediction" if config.prediction is Prediction.V else "epsilon",
    }
    if config.family is Family.SD1 and not config.is_zero_terminal_snr:
        return {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False, **shared}
    more = {"interpolation_type": "linear", "rescale_betas_zero_snr": config.is_zero_terminal_snr}
    return {"_class_name": "EulerDiscreteScheduler", **more, **shared}
