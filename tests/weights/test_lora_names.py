"""The names that LoRA files use, against the modules of diffusers and transformers that trainers name them by."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from hayate.models.config import SD1, SD2, SDXL, Family, ModelConfig
from hayate.weights.lora_names import Place, places_of, plain_name, seems_for

PUBLISHED = {Family.SD1: SD1, Family.SD2: SD2, Family.SDXL: SDXL}
UNETS = {
    Family.SD1: {"cross_attention_dim": 768},
    Family.SD2: {
        "cross_attention_dim": 1024,
        "attention_head_dim": [5, 10, 20, 20],
        "use_linear_projection": True,
    },
    Family.SDXL: {
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "use_linear_projection": True,
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
"""What the published config.json of each family's `unet` says, beside diffusers' defaults."""


@pytest.mark.parametrize("family", UNETS)
def test_every_layer_of_diffusers_unet_has_its_place(family: Family) -> None:
    with torch.device("meta"):
        theirs = UNet2DConditionModel(**UNETS[family])
    places = places_of(PUBLISHED[family])
    found: set[Place] = set()
    for name, module in theirs.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.GroupNorm | nn.LayerNorm):
            place = places[plain_name(f"unet.{name}", 1)]
            assert place is places["lora_unet_" + name.replace(".", "_")]
            assert place.shape == tuple(module.weight.shape), name
            assert (place.bias is None) == (module.bias is None), name
            assert place not in found, name
            found.add(place)
    ours = {place for place in places.values() if place.network == 0}
    assert found == ours, "and no place is without a layer of theirs"


@pytest.mark.parametrize("family", UNETS)
def test_every_layer_of_transformers_text_encoders_has_its_place(family: Family) -> None:
    config = PUBLISHED[family]
    places = places_of(config)
    for number, text in enumerate(config.text, start=1):
        settings = CLIPTextConfig(
            hidden_size=text.width,
            intermediate_size=text.mlp_width,
            num_hidden_layers=text.depth,
            num_attention_heads=text.heads,
        )
        with torch.device("meta"):
            theirs = CLIPTextModel(settings)
        prefix = "text_encoder." if number == 1 else "text_encoder_2."
        kohya = "lora_te_" if len(config.text) == 1 else f"lora_te{number}_"
        seen = 0
        for name, module in theirs.named_modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                inner = name if name.startswith("text_model.") else f"text_model.{name}"
                place = places[plain_name(prefix + inner, len(config.text))]
                assert place is places[kohya + inner.replace(".", "_")]
                assert (place.network, place.shape) == (number, tuple(module.weight.shape))
                seen += 1
        assert seen == 8 * text.depth + 1


def test_names_of_the_original_files_and_of_kohyas_sdxl_script_are_known() -> None:
    places = places_of(SDXL)
    weight = "input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight"
    for name in (
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
        "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q",
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
        "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
        "down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_q",
    ):
        assert places[plain_name(name, 2)].weight == weight


def test_an_sdxl_file_is_told_by_its_second_text_encoder_and_others_by_their_context() -> None:
    key = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    assert seems_for({"lora_te2_text_model_encoder_layers_0_mlp_fc1": ()}) == "SDXL"
    assert [seems_for({key: (32, width)}) for width in (768, 1024, 2048, 99)] == ["SD1", "SD2", "SDXL", None]
    assert seems_for({"lora_unet_double_blocks_0_img_attn_qkv": ()}) == "Flux"


def test_models_that_differ_in_nothing_but_the_prediction_share_their_places() -> None:
    other: ModelConfig = replace(SD2, native_size_px=768)
    assert places_of(other) == places_of(SD2)
