"""Texts as people post them, and what each must become: written for these tests, in the forms of many programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hayate.request import Hires


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A posted text; `fields` are those of the request to look at, `left_out` the features that can't be had."""

    text: str
    fields: dict[str, Any]
    left_out: set[str] = field(default_factory=set)
    faults: int = 0
    old: bool = False
    """Whether its version did something otherwise that shows."""


POSTED = {
    "before versions, 8 digits": Posted(
        text="portrait of a knight, oil painting\n"
        "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 3242423123, Size: 512x512, Model hash: 7460a6fa",
        fields={
            "prompt": "portrait of a knight, oil painting",
            "negative_prompt": "",
            "steps": 20,
            "sampler": "Euler a",
            "scheduler": "Automatic",
            "cfg": 7.0,
            "seed": 3242423123,
            "width_px": 512,
            "height_px": 512,
            "clip_skip": 1,
            "noise_source": "GPU",
            "ensd": 0,
        },
    ),
    "2022, batch and first pass": Posted(
        text="a castle\nSteps: 30, Sampler: LMS, CFG scale: 9.5, Seed: 7, Size: 1024x768, Model hash: a9263745, "
        "Batch size: 4, Batch pos: 2, Denoising strength: 0.7, First pass size: 512x384",
        fields={"sampler": "LMS", "cfg": 9.5, "width_px": 1024, "height_px": 768},
        left_out={"hires fix"},
    ),
    "2022, joined sampler name": Posted(
        text="1girl, masterpiece\nNegative prompt: lowres, bad anatomy, bad hands\n"
        "Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 11, Seed: 2870305590, Size: 512x768, "
        "Model hash: 925997e9, Clip skip: 2, ENSD: 31337",
        fields={"sampler": "DPM++ 2M Karras", "scheduler": "Uniform", "clip_skip": 2, "ensd": 31337},
    ),
    "2022, plain name meant uniform": Posted(
        text="a fox\nSteps: 25, Sampler: DPM++ 2M, CFG scale: 7, Seed: 1, Size: 512x512, Model hash: 81761151",
        fields={"sampler": "DPM++ 2M", "scheduler": "Uniform"},
    ),
    "hypernetwork": Posted(
        text="a girl\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 512x512, Model hash: 925997e9, "
        "Hypernet: anime_3, Hypernet strength: 0.8",
        fields={"sampler": "Euler"},
        left_out={"hypernetwork"},
    ),
    "face restoration": Posted(
        text="a man\nSteps: 20, Sampler: DDIM, CFG scale: 7, Seed: 5, Face restoration: GFPGAN, Size: 512x512",
        fields={"sampler": "DDIM", "scheduler": "Automatic"},
        left_out={"face restoration"},
    ),
    "variation and seed resize": Posted(
        text="a lake\nSteps: 20, Sampler: Heun, CFG scale: 7, Seed: 5, Size: 768x512, Model hash: 81761151, "
        "Variation seed: 99, Variation seed strength: 0.15, Seed resize from: 512x512",
        fields={"subseed": 99, "subseed_strength": 0.15, "seed_resize_from_w_px": 512, "seed_resize_from_h_px": 512},
    ),
    "seed resize that is off": Posted(
        text="a lake\nSteps: 20, Sampler: Heun, CFG scale: 7, Seed: 5, Size: 768x512, Variation seed: 9, "
        "Variation seed strength: 0.1, Seed resize from: 0x0",
        fields={"subseed": 9, "seed_resize_from_w_px": 0},
    ),
    "img2img": Posted(
        text="a dog\nSteps: 30, Sampler: Euler a, CFG scale: 7, Seed: 12, Size: 512x512, Model hash: fe4efff1e1, "
        "Denoising strength: 0.6, Mask blur: 4",
        fields={"seed": 12},
        left_out={"img2img"},
    ),
    "1.0 with the model's name": Posted(
        text="photo of a street, (rain:1.2), [neon|fog]\nNegative prompt: (worst quality:1.4)\n"
        "Steps: 25, Sampler: DPM++ SDE Karras, CFG scale: 6, Seed: 4045614921, Size: 512x704, "
        "Model hash: c0d1994c73, Model: realisticVisionV20_v20",
        fields={"sampler": "DPM++ SDE Karras", "negative_prompt": "(worst quality:1.4)", "height_px": 704},
    ),
    "1.2 with hires fix": Posted(
        text="landscape, mountains\nNegative prompt: text\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, "
        "Size: 512x512, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Denoising strength: 0.7, "
        "Hires upscale: 2, Hires steps: 15, Hires upscaler: Latent, Version: v1.2.1",
        fields={"width_px": 512, "steps": 20, "hires": Hires(scale=2, steps=15, upscaler="Latent", denoising=0.7)},
        old=True,
    ),
    "1.3 with hires resize": Posted(
        text="a tower\nSteps: 20, Sampler: UniPC, CFG scale: 7, Seed: 1, Size: 512x768, Model hash: 6ce0161689, "
        "Denoising strength: 0.4, Hires resize: 1024x1536, Hires upscaler: R-ESRGAN 4x+ Anime6B, Version: v1.3.2",
        fields={"sampler": "UniPC", "scheduler": "Automatic"},
        left_out={"hires fix"},
        old=True,
    ),
    "1.4 with token merging": Posted(
        text="a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model hash: 6ce0161689, "
        "Model: v1-5-pruned-emaonly, Token merging ratio: 0.5, NGMS: 2, Version: v1.4.0",
        fields={"sampler": "Euler a"},
        old=True,
    ),
    "1.5 with LoRA": Posted(
        text="masterpiece, 1girl, <lora:add_detail:0.6>, <lora:blindbox_v1_mix:1>\nNegative prompt: EasyNegative\n"
        "Steps: 30, Sampler: DPM++ 2M SDE Karras, CFG scale: 7, Seed: 917183, Size: 512x768, Model hash: 4199bcdd14, "
        "Model: revAnimated_v122, VAE hash: c6a580b13a, VAE: vae-ft-mse-840000-ema-pruned.ckpt, Clip skip: 2, "
        'Lora hashes: "add_detail: 7c6bad76eb54, blindbox_v1_mix: d8a1ae2b5e34", '
        'TI hashes: "EasyNegative: c74b4e810b03", Version: v1.5.2',
        fields={"prompt": "masterpiece, 1girl, <lora:add_detail:0.6>, <lora:blindbox_v1_mix:1>", "clip_skip": 2},
        old=True,
    ),
    "1.5 with ControlNet": Posted(
        text="a house\nSteps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 4, Size: 512x512, "
        'Model hash: 6ce0161689, ControlNet 0: "preprocessor: canny, model: control_v11p_sd15_canny [d14c016b], '
        'weight: 1, starting/ending: (0, 1), resize mode: Crop and Resize, pixel perfect: True", '
        'ControlNet 1: "preprocessor: depth_midas, model: control_v11f1p_sd15_depth [cfd03158], weight: 0.5", '
        "Version: v1.5.1",
        fields={"width_px": 512},
        left_out={"ControlNet"},
        old=True,
    ),
    "old ControlNet keys": Posted(
        text="a house\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 4, Size: 512x512, Model hash: 6ce0161689, "
        "ControlNet Enabled: True, ControlNet Module: canny, ControlNet Model: control_canny-fp16 [e3fe7712], "
        "ControlNet Weight: 1, ControlNet Guidance Start: 0, ControlNet Guidance End: 1",
        fields={"steps": 20},
        left_out={"ControlNet"},
    ),
    "1.6 with ADetailer": Posted(
        text="woman, forest\nNegative prompt: bad hands\nSteps: 25, Sampler: DPM++ 2M Karras, CFG scale: 5.5, "
        "Seed: 8, Size: 640x960, Model hash: 879db523c3, Model: dreamshaper_8, ADetailer model: face_yolov8n.pt, "
        'ADetailer prompt: "face, detailed, eyes: blue", ADetailer confidence: 0.3, ADetailer dilate erode: 4, '
        "ADetailer mask blur: 4, ADetailer denoising strength: 0.4, ADetailer inpaint only masked: True, "
        "ADetailer inpaint padding: 32, ADetailer version: 23.11.1, Version: v1.6.0",
        fields={"cfg": 5.5},
        left_out={"ADetailer"},
        old=True,
    ),
    "1.6 with refiner": Posted(
        text="an astronaut\nSteps: 30, Sampler: DPM++ 2M SDE Karras, CFG scale: 7, Seed: 3, Size: 1024x1024, "
        "Model hash: 31e35c80fc, Model: sd_xl_base_1.0, Refiner: sd_xl_refiner_1.0 [7440042bbd], "
        "Refiner switch at: 0.8, Version: v1.6.1",
        fields={"width_px": 1024, "refiner_switch_at": 0.8},
        old=True,
    ),
    "1.6 with a schedule of the user's": Posted(
        text="a barn\nSteps: 20, Sampler: DPM++ 2M, CFG scale: 7, Seed: 3, Size: 512x512, Model hash: 6ce0161689, "
        "RNG: CPU, Schedule type: karras, Schedule max sigma: 14.6, Schedule min sigma: 0.1, Schedule rho: 5, "
        "Version: v1.6.0",
        fields={"scheduler": "karras", "sigma_max": 14.6, "sigma_min": 0.1, "rho": 5.0, "noise_source": "CPU"},
        old=True,
    ),
    "1.7": Posted(
        text="an otter\nSteps: 20, Sampler: DPM++ 3M SDE Exponential, CFG scale: 7, Seed: 3, Size: 512x512, "
        "Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Eta: 0.67, Version: v1.7.0",
        fields={"sampler": "DPM++ 3M SDE Exponential", "eta": 0.67},
        old=True,
    ),
    "1.8 with tiling": Posted(
        text="pattern of leaves\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 3, Size: 512x512, "
        "Model hash: 6ce0161689, Tiling: True, Version: v1.8.0",
        fields={"sampler": "Euler"},
        left_out={"Tiling"},
    ),
    "1.9 with soft inpainting": Posted(
        text="a hat\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 3, Size: 512x512, "
        "Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Denoising strength: 0.75, Conditional mask weight: 1.0, "
        "Mask blur: 4, Inpaint area: Only masked, Masked area padding: 32, Soft inpainting enabled: True, "
        "Soft inpainting schedule bias: 1, Version: v1.9.4",
        fields={"scheduler": "Karras"},
        left_out={"img2img"},
    ),
    "1.9, automatic": Posted(
        text="a hat\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Automatic, CFG scale: 7, Seed: 3, Size: 512x512, "
        "Version: v1.9.4",
        fields={"scheduler": "Automatic"},
    ),
    "1.10": Posted(
        text="helmet, (steel:1.1)\nat dawn,\n\nbacklit\nNegative prompt: blurry,\nlowres\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1944526060, Size: 512x512, "
        "Model hash: 6d82a674e1, Model: helloobjects_V15evae, Emphasis: No norm, Pad conds: True, Version: v1.10.1",
        fields={
            "prompt": "helmet, (steel:1.1)\nat dawn,\n\nbacklit",
            "negative_prompt": "blurry,\nlowres",
            "emphasis": "No norm",
        },
    ),
    "1.10 with everything of hires fix": Posted(
        text="a city\nSteps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 1, Size: 512x512, "
        "Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Denoising strength: 0.35, Hires sampler: DPM++ 2M, "
        'Hires prompt: "a city, night: rainy", Hires negative prompt: blurry, Hires schedule type: Karras, '
        "Hires CFG Scale: 5, Hires upscale: 2, Hires steps: 10, Hires upscaler: 4x-UltraSharp, Version: v1.10.1",
        fields={"prompt": "a city", "negative_prompt": ""},
        left_out={"hires fix"},
    ),
    "1.10 with values that say nothing": Posted(
        text="a pond\nSteps: 20, Sampler: Euler, Schedule type: Automatic, CFG scale: 7, Seed: 1, Size: 512x512, "
        "FP8 weight: Disable, VAE Encoder: Full, VAE Decoder: Full, Mask mode: Inpaint masked, Version: v1.10.0",
        fields={"steps": 20},
    ),
    "1.10 with a decoder that isn't here": Posted(
        text="a pond\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 512x512, VAE Decoder: TAESD, "
        "Hypertile U-Net: True, Version: v1.10.0",
        fields={"steps": 20},
        left_out={"VAE Decoder", "Hypertile U-Net"},
    ),
    "Forge": Posted(
        text="score_9, source_anime\nSteps: 25, Sampler: Euler a, CFG scale: 5, Seed: 1529354297, Size: 832x1200, "
        "Model hash: 67ab2fd8ec, Model: ponyDiffusionV6XL_v6StartWithThisOne, VAE hash: 235745af8d, "
        "VAE: sdxl_vae.safetensors, Denoising strength: 0.4, Clip skip: 2, Hires upscale: 1.5, Hires steps: 14, "
        'Hires upscaler: 4x-UltraSharp, Lora hashes: "Alien_Concept_Art: fbfb35629d0a", Emphasis: No norm, '
        "Version: f0.0.17v1.8.0rc-latest-276-g29be1da7",
        fields={"width_px": 832, "height_px": 1200, "clip_skip": 2, "emphasis": "No norm"},
        left_out={"hires fix"},
    ),
    "Forge with a sampler of its own": Posted(
        text="a rose\nSteps: 20, Sampler: Euler SMEA Dy, Schedule type: Align Your Steps GITS, CFG scale: 7, Seed: 1, "
        "Size: 512x512, Version: f2.0.1v1.10.1-previous-313-g8a042934",
        fields={"sampler": None, "scheduler": "Automatic", "steps": 20},
        faults=2,
    ),
    "a sampler that can't be had": Posted(
        text="a rose\nSteps: 20, Sampler: DPM adaptive, CFG scale: 7, Seed: 1, Size: 512x512",
        fields={"sampler": None, "cfg": 7.0},
        faults=1,
    ),
    "numbers that are none": Posted(
        text="a rose\nSteps: many, Sampler: Euler, CFG scale: high, Seed: 1, Size: 512 by 512",
        fields={"steps": None, "cfg": None, "width_px": None, "seed": 1},
        faults=3,
    ),
    "civitai": Posted(
        text="a ship\nNegative prompt: worst quality\nSteps: 25, Sampler: Euler a, CFG scale: 7, Seed: 2, "
        "Size: 832x1216, Clip skip: 2, Created Date: 2024-08-18T2230:19.6131434Z, Civitai resources: "
        '[{"type":"checkpoint","modelVersionId":290640}], Civitai metadata: {}',
        fields={"clip_skip": 2, "height_px": 1216},
    ),
    "a prompt that looks like parameters": Posted(
        text="poster, title: Steps: 12, year: 1999\nNegative prompt: Size: 1x1\nSteps: 20, Sampler: Euler, "
        "CFG scale: 7, Seed: 1, Size: 64x64, Version: v1.10.1",
        fields={"prompt": "poster, title: Steps: 12, year: 1999", "negative_prompt": "Size: 1x1", "steps": 20},
    ),
    "a size that is no multiple of 8": Posted(
        text="a barn\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 500x700, Seed resize from: -1x-1",
        fields={"width_px": 496, "height_px": 696, "seed_resize_from_w_px": 0},
    ),
    "old timelines that show": Posted(
        text="a [cat:dog:5.0] in the snow\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64, "
        "Version: v1.5.1",
        fields={"prompt": "a [cat:dog:5.0] in the snow"},
        old=True,
    ),
}
