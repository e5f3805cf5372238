"""A1111's options: which of them act here, by which setting, and what the others are answered.

Source: A1111 v1.10.1's settings, their names and defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hayate.errors import UnknownName, UsageError, clip

ATTENTION: Mapping[str, str] = MappingProxyType(
    {
        "Automatic": "auto",
        "xformers": "xformers",
        "sdp": "sdp",
        "sdp-no-mem": "sdp-no-mem",
        "sub-quadratic": "sub-quadratic",
        "Doggettx": "split",
        "V1": "split",
        "InvokeAI": "split",
        "None": "math",
    }
)
"""A1111's attention optimisations, without what it writes behind " - "."""
FORMATS: Mapping[str, str] = MappingProxyType({"jpg": "jpeg"})


def _attention(title: Any) -> str:
    name = str(title).partition(" - ")[0]
    if name not in ATTENTION:
        raise UnknownName("attention optimisation", name, ATTENTION)
    return ATTENTION[name]


def _format(name: Any) -> str:
    return FORMATS.get(str(name).casefold(), str(name).casefold())


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class ActingOption:
    """An option that is one of Hayate's settings."""

    setting: str
    read: Callable[[Any], Any] = _as_it_is
    """From A1111's value to the setting's."""
    show: Callable[[Any], Any] = _as_it_is
    """The way back."""


def _shown_attention(name: Any) -> str:
    return next((title for title, own in ATTENTION.items() if own == name), str(name))


ACTING: Mapping[str, ActingOption] = MappingProxyType(
    {
        "CLIP_stop_at_last_layers": ActingOption("clip_skip", show=lambda value: value or 1),
        "eta_noise_seed_delta": ActingOption("ensd"),
        "randn_source": ActingOption("rng"),
        "emphasis": ActingOption("emphasis"),
        "comma_padding_backtrack": ActingOption("comma_backtrack"),
        "samples_format": ActingOption("format", _format, lambda value: "jpg" if value == "jpeg" else value),
        "jpeg_quality": ActingOption("quality"),
        "ESRGAN_tile": ActingOption("upscaler_tile_px"),
        "ESRGAN_tile_overlap": ActingOption("upscaler_overlap_px"),
        "cross_attention_optimization": ActingOption("attention", _attention, _shown_attention),
    }
)
"""Options that change how every picture is made."""


@dataclass(frozen=True, slots=True)
class KeptOption:
    """An option that is kept under A1111's name; some of them act on a call that does not say otherwise."""

    default: bool | int | float | str | list[str]
    acts: bool = False

    def check(self, key: str, value: Any) -> Any:
        """The value as the default's type.

        Raises: UsageError.
        """
        kind = type(self.default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind is int and isinstance(value, float) and value.is_integer():
            return int(value)
        is_right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not is_right or len(str(value)) > 10_000:
            hint = f"such as {self.default!r}"
            raise UsageError(f"the option {key} can't be {clip(repr(value), 60)}", hint=hint)
        return value


KEPT: Mapping[str, KeptOption] = MappingProxyType(
    {
        # What acts on calls that leave it open
        "eta_ancestral": KeptOption(1.0, acts=True),
        "eta_ddim": KeptOption(0.0, acts=True),
        "sigma_min": KeptOption(0.0, acts=True),
        "sigma_max": KeptOption(0.0, acts=True),
        "rho": KeptOption(0.0, acts=True),
        "s_min_uncond": KeptOption(0.0, acts=True),
        "token_merging_ratio": KeptOption(0.0, acts=True),
        "initial_noise_multiplier": KeptOption(1.0, acts=True),
        "live_previews_enable": KeptOption(True, acts=True),
        "show_progress_every_n_steps": KeptOption(10, acts=True),
        "return_grid": KeptOption(True, acts=True),
        "grid_only_if_multiple": KeptOption(True, acts=True),
        "samples_save": KeptOption(True, acts=True),
        "save_incomplete_images": KeptOption(False, acts=True),
        "grid_save": KeptOption(True, acts=True),
        # What is kept and has no effect: it concerns A1111's page, or what is always so here
        "upcast_attn": KeptOption(False),
        "auto_vae_precision": KeptOption(True),
        "batch_cond_uncond": KeptOption(True),
        "pad_cond_uncond": KeptOption(True),
        "persistent_cond_cache": KeptOption(True),
        "enable_batch_seeds": KeptOption(True),
        "fp8_storage": KeptOption("Disable"),
        "cache_fp16_weight": KeptOption(False),
        "use_old_emphasis_implementation": KeptOption(False),
        "use_old_karras_scheduler_sigmas": KeptOption(False),
        "use_old_hires_fix_width_height": KeptOption(False),
        "dont_fix_second_order_samplers_schedule": KeptOption(False),
        "sd_checkpoints_limit": KeptOption(1),
        "sd_checkpoint_cache": KeptOption(0),
        "sd_vae_checkpoint_cache": KeptOption(0),
        "sd_checkpoints_keep_in_cpu": KeptOption(True),
        "sd_unet": KeptOption("Automatic"),
        "sd_vae_overrides_per_model_preferences": KeptOption(True),
        "sd_vae_encode_method": KeptOption("Full"),
        "sd_vae_decode_method": KeptOption("Full"),
        "sdxl_crop_top": KeptOption(0),
        "sdxl_crop_left": KeptOption(0),
        "sdxl_refiner_low_aesthetic_score": KeptOption(2.5),
        "sdxl_refiner_high_aesthetic_score": KeptOption(6.0),
        "inpainting_mask_weight": KeptOption(1.0),
        "img2img_color_correction": KeptOption(False),
        "img2img_fix_steps": KeptOption(False),
        "img2img_background_color": KeptOption("#ffffff"),
        "s_churn": KeptOption(0.0),
        "s_tmin": KeptOption(0.0),
        "s_tmax": KeptOption(0.0),
        "s_noise": KeptOption(1.0),
        "uni_pc_variant": KeptOption("bh1"),
        "uni_pc_order": KeptOption(3),
        "sgm_noise_multiplier": KeptOption(False),
        "token_merging_ratio_img2img": KeptOption(0.0),
        "token_merging_ratio_hr": KeptOption(0.0),
        "face_restoration_model": KeptOption("CodeFormer"),
        "face_restoration": KeptOption(False),
        "code_former_weight": KeptOption(0.5),
        "extra_networks_default_multiplier": KeptOption(1.0),
        "lora_add_hashes_to_infotext": KeptOption(True),
        "enable_pnginfo": KeptOption(True),
        "save_txt": KeptOption(False),
        "add_model_hash_to_info": KeptOption(True),
        "add_model_name_to_info": KeptOption(True),
        "show_progress_type": KeptOption("Approx cheap"),
        "show_progress_grid": KeptOption(True),
        "live_previews_image_format": KeptOption("jpeg"),
        "live_preview_refresh_period": KeptOption(1000.0),
        "send_seed": KeptOption(True),
        "send_size": KeptOption(True),
        "do_not_show_images": KeptOption(False),
        "quicksettings_list": KeptOption(["sd_model_checkpoint", "sd_vae", "CLIP_stop_at_last_layers"]),
        "upscaler_for_img2img": KeptOption("None"),
        "upscaling_max_images_in_cache": KeptOption(5),
        "memmon_poll_rate": KeptOption(8),
        "interrogate_return_ranks": KeptOption(False),
    }
)
"""Options that are kept and come back as they were set."""

PLACES: Mapping[str, str] = MappingProxyType(
    {
        "outdir_samples": "outputs_dir",
        "outdir_txt2img_samples": "outputs_dir",
        "outdir_img2img_samples": "outputs_dir",
        "outdir_extras_samples": "outputs_dir",
        "outdir_grids": "outputs_dir",
        "outdir_txt2img_grids": "outputs_dir",
        "outdir_img2img_grids": "outputs_dir",
        "outdir_save": "outputs_dir",
        "outdir_init_images": "outputs_dir",
        "samples_filename_pattern": "filename_pattern",
        "directories_filename_pattern": "",
        "font": "",
        "temp_dir": "",
        "lora_dir": "lora_dir",
    }
)
"""Options that say where files go: shown where there is such a setting, and never written from outside."""

MODEL, VAE, MODEL_HASH = "sd_model_checkpoint", "sd_vae", "sd_checkpoint_hash"
NAMES = (MODEL, VAE)
"""Options that are names of files."""
READ_ONLY = frozenset({MODEL_HASH, *PLACES})


def is_known(key: str) -> bool:
    return key in ACTING or key in KEPT or key in NAMES or key in READ_ONLY
