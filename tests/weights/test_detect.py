"""Detection from names and shapes: the published families at full size, tiny ones, and what is none of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from hayate.errors import BrokenFile, RefusedFormat, TensorMismatch
from hayate.models.config import Family, ModelConfig, Prediction, VAEConfig
from hayate.weights.detect import (
    PUBLISHED,
    UNET_PREFIX,
    VAE_PREFIX,
    detect,
    detect_checkpoint,
    detect_family,
    detect_vae,
    vae_prefix,
)
from hayate.weights.header import TensorInfo
from hayate.weights.read import open_checkpoint, read_header
from tests.tiny_models import networks, random_tensors, tiny_config, write, write_tiny

SD2_BIAS = UNET_PREFIX + "output_blocks.11.1.transformer_blocks.0.norm1.bias"


def info(*shape: int) -> TensorInfo:
    return TensorInfo(dtype="F16", shape=shape, start=0, end=2 * math.prod(shape))


def table(config: ModelConfig) -> dict[str, TensorInfo]:
    """Names and shapes of every tensor of a model, without any numbers."""
    return {
        prefix + name: info(*tensor.shape)
        for prefix, network in networks(config).items()
        for name, tensor in network.state_dict().items()
    }


@pytest.fixture(scope="module")
def full_size() -> dict[Family, dict[str, TensorInfo]]:
    return {family: table(config) for family, config in PUBLISHED.items()}


@pytest.mark.parametrize("family", Family)
def test_the_published_models_are_recognised(full_size, family):
    assert detect(full_size[family], {}) == PUBLISHED[family]
    assert detect_family(full_size[family]) is family


@pytest.mark.parametrize(
    ("family", "parameters"),
    [(Family.SD1, 859_520_964), (Family.SD2, 865_910_724), (Family.SDXL, 2_567_463_684)],
)
def test_the_published_u_nets_have_their_published_number_of_parameters(full_size, family, parameters):
    shapes = (one.shape for name, one in full_size[family].items() if name.startswith(UNET_PREFIX))
    assert sum(map(math.prod, shapes)) == parameters


@pytest.mark.parametrize("family", Family)
def test_tiny_models_are_recognised_in_files(tmp_path, family):
    config = write_tiny(tmp_path / "a.safetensors", family, prediction=Prediction.V)
    with open_checkpoint(tmp_path / "a.safetensors") as checkpoint:
        assert detect_checkpoint(checkpoint) == config
    assert config.prediction is Prediction.V


@pytest.mark.parametrize(("channels", "is_inpainting"), [(9, True), (8, False)], ids=["inpainting", "pix2pix"])
def test_more_input_channels_are_recognised(full_size, channels, is_inpainting):
    tensors = full_size[Family.SD1] | {UNET_PREFIX + "input_blocks.0.0.weight": info(320, channels, 3, 3)}
    config = detect(tensors, {})
    assert config.unet.in_channels == channels
    assert config.is_inpainting is is_inpainting


def test_the_old_names_of_sd1_text_encoders_are_recognised(full_size):
    old = {name.replace(".text_model.", "."): one for name, one in full_size[Family.SD1].items()}
    (text,) = detect(old, {}).text
    assert text == replace(PUBLISHED[Family.SD1].text[0], prefix="cond_stage_model.transformer.")


def test_sd2_without_its_unused_last_block_reads_the_same_layer(full_size):
    (whole,) = PUBLISHED[Family.SD2].text
    short = {name: one for name, one in full_size[Family.SD2].items() if ".resblocks.23." not in name}
    del short[whole.prefix + "text_projection"]
    (text,) = detect(short, {}).text
    assert text.depth - text.skip == whole.depth - whole.skip
    assert text.projection_width == 0


def test_a_checkpoint_without_a_vae_gets_the_published_one(full_size):
    bare = {name: one for name, one in full_size[Family.SDXL].items() if not name.startswith(VAE_PREFIX)}
    assert detect(bare, {}).vae == PUBLISHED[Family.SDXL].vae
    with pytest.raises(RefusedFormat, match="no VAE of its own"):
        detect_vae(bare)


PREDICTIONS = {
    "nothing": ((), {}, Prediction.EPSILON, False),
    "v_pred": (("v_pred",), {}, Prediction.V, False),
    "both markers": (("v_pred", "ztsnr"), {}, Prediction.V, True),
    "ztsnr alone": (("ztsnr",), {}, Prediction.EPSILON, True),
    "modelspec v": ((), {"modelspec.prediction_type": "v"}, Prediction.V, False),
    "modelspec epsilon": ((), {"modelspec.prediction_type": "epsilon"}, Prediction.EPSILON, False),
    "architecture": ((), {"modelspec.architecture": "stable-diffusion-v2-768-v"}, Prediction.V, False),
    "declared": (("v_pred",), {"hayate.config": '{"prediction": "epsilon"}'}, Prediction.EPSILON, False),
    "declared end": ((), {"hayate.config": '{"is_zero_terminal_snr": true}'}, Prediction.EPSILON, True),
}


@pytest.mark.parametrize("case", PREDICTIONS)
def test_prediction_is_told_by_markers_and_metadata(full_size, case):
    markers, metadata, prediction, is_zero_terminal_snr = PREDICTIONS[case]
    config = detect(full_size[Family.SDXL] | {marker: info(0) for marker in markers}, metadata)
    assert (config.prediction, config.is_zero_terminal_snr) == (prediction, is_zero_terminal_snr)


def test_the_caller_overrides_what_is_detected(full_size):
    config = detect(full_size[Family.SD2] | {"v_pred": info(0)}, {}, prediction=Prediction.EPSILON)
    assert (config.prediction, config.native_size_px) == (Prediction.EPSILON, 512)


@pytest.mark.parametrize(("spread", "prediction", "size_px"), [(0.08, "epsilon", 512), (0.1, "v", 768)])
def test_sd2_is_told_by_the_spread_of_one_bias(full_size, spread, prediction, size_px):
    asked = []

    def peek(name: str) -> torch.Tensor:
        asked.append(name)
        return torch.tensor([spread, -spread]).repeat(160).half()

    config = detect(full_size[Family.SD2], {}, peek=peek)
    assert (config.prediction, config.native_size_px) == (prediction, size_px)
    assert asked == [SD2_BIAS]
    inpainting = full_size[Family.SD2] | {UNET_PREFIX + "input_blocks.0.0.weight": info(320, 9, 3, 3)}
    assert detect(inpainting, {}, peek=peek).prediction is Prediction.EPSILON
    assert detect(full_size[Family.SD1], {}, peek=peek).prediction is Prediction.EPSILON
    assert len(asked) == 1


def test_a_file_declares_what_shapes_cannot_tell(tmp_path):
    tiny = tiny_config(Family.SD1)
    odd = replace(
        tiny,
        unet=replace(tiny.unet, channels=24, norm_groups=8, heads=0, head_width=12),
        vae=replace(tiny.vae, channels=16, norm_groups=16, scale=0.5),
        text=(replace(tiny.text[0], heads=4, is_quick_gelu=False),),
        native_size_px=128,
    )
    declared = {
        "unet.norm_groups": 8,
        "unet.head_width": 12,
        "vae.norm_groups": 16,
        "vae.scale": 0.5,
        "text.0.heads": 4,
        "text.0.is_quick_gelu": False,
        "native_size_px": 128,
    }
    path = tmp_path / "odd.safetensors"
    write(path, dict(random_tensors(odd, 0)), declared)
    header = read_header(path)
    assert detect(header.tensors, header.metadata) == odd
    with pytest.raises(RefusedFormat, match=r"declares unet\.norm_groups"):
        detect(header.tensors, {})


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ("{", "not valid JSON"),
        ("[]", "no JSON object"),
        ('{"unet.head": 8}', "nearest: unet.heads"),
        ('{"unet.heads": 0}', "unet.heads"),
        ('{"unet.heads": true}', "whole number"),
        ('{"unet.heads": 8, "unet.head_width": 8}', "both"),
        ('{"vae.scale": NaN}', "vae.scale"),
        ('{"prediction": "x0"}', "epsilon or v"),
        ('{"text.0.is_quick_gelu": 1}', "true or false"),
    ],
)
def test_bad_declarations_are_refused(full_size, declared, sentence):
    with pytest.raises(BrokenFile, match=sentence):
        detect(full_size[Family.SD1], {"hayate.config": declared}, source="a.safetensors")


def test_a_vae_is_recognised_alone_and_inside(full_size):
    inside = full_size[Family.SD1]
    alone = {name.removeprefix(VAE_PREFIX): one for name, one in inside.items() if name.startswith(VAE_PREFIX)}
    assert detect_vae(inside) == detect_vae(alone) == VAEConfig()
    assert (vae_prefix(inside), vae_prefix(alone)) == (VAE_PREFIX, "")
    assert detect_vae(alone, scale=0.13025).scale == 0.13025
    with pytest.raises(RefusedFormat, match="seems to be a LoRA"):
        detect_vae({"lora_unet_x.lora_up.weight": info(4, 4)})


SEEMS = {
    "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight lora_te_a.lora_up.weight": "a LoRA",
    "unet.down_blocks.0.attentions.0.to_q.lora_A.weight": "a LoRA",
    "emb_params": "embedding",
    "clip_g clip_l": "embedding for SDXL",
    "control_model.input_hint_block.0.weight control_model.input_blocks.0.0.weight": "a ControlNet",
    "model.diffusion_model.double_blocks.0.img_attn.qkv.weight": "a Flux",
    "model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight": "an SD3",
    "decoder.conv_in.weight encoder.conv_in.weight": "a VAE alone",
    "first_stage_model.decoder.conv_in.weight": "a VAE alone",
    "model.diffusion_model.input_blocks.0.0.weight": "without a text encoder",
    "input_blocks.0.0.weight": "a U-Net alone",
    "down_blocks.0.resnets.0.conv1.weight": "diffusers",
    "text_model.encoder.layers.0.mlp.fc1.weight": "a text encoder alone",
    "blk.0.attn_q.weight": "no Stable Diffusion checkpoint",
    "": "no Stable Diffusion checkpoint",
}


@pytest.mark.parametrize("names", SEEMS)
def test_other_files_are_told_for_what_they_seem(names):
    with pytest.raises(RefusedFormat, match=SEEMS[names]) as caught:
        detect({name: info(4, 4) for name in names.split()}, {}, source="some.safetensors")
    assert "some.safetensors" in caught.value.message


VARIANTS = {
    "EDM": ({"edm_mean": info(4)}, "EDM"),
    "depth": ({UNET_PREFIX + "input_blocks.0.0.weight": info(320, 5, 3, 3)}, "5 channels"),
    "upscaler": ({UNET_PREFIX + "label_emb.weight": info(1000, 1280)}, "something else"),
    "unCLIP": ({UNET_PREFIX + "label_emb.0.0.weight": info(1280, 2048)}, "something else"),
    "uneven": ({UNET_PREFIX + "input_blocks.1.1.transformer_blocks.1.norm1.weight": info(320)}, "differ within"),
    "uneven width": ({UNET_PREFIX + "input_blocks.2.0.in_layers.2.weight": info(640, 320, 3, 3)}, "differ within"),
    "uneven up": ({UNET_PREFIX + "output_blocks.5.1.transformer_blocks.1.norm1.weight": info(640)}, "differ within"),
    "mixed": ({UNET_PREFIX + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": info(320, 1024)}, "width 1024"),
}


@pytest.mark.parametrize("case", VARIANTS)
def test_relatives_that_would_draw_nonsense_are_refused(full_size, case):
    changed, sentence = VARIANTS[case]
    with pytest.raises(RefusedFormat, match=sentence):
        detect(full_size[Family.SD1] | changed, {}, source="some.safetensors")


@pytest.mark.parametrize(
    "name",
    [UNET_PREFIX + "out.2.weight", VAE_PREFIX + "encoder.conv_in.weight", VAE_PREFIX + "decoder.conv_in.weight"],
)
def test_a_telling_tensor_that_is_missing_or_odd_is_named(full_size, name):
    tensors = dict(full_size[Family.SD1])
    for odd in (info(), info(0, 4, 3, 3)):
        with pytest.raises(TensorMismatch, match=f"'{name}' has the odd shape"):
            detect(tensors | {name: odd}, {})
    del tensors[name]
    with pytest.raises(TensorMismatch, match=f"'{name}' is missing"):
        detect(tensors, {})


def test_sdxl_without_its_projection_is_refused(full_size):
    tensors = dict(full_size[Family.SDXL])
    del tensors["conditioner.embedders.1.model.text_projection"]
    with pytest.raises(TensorMismatch, match=r"embedders\.1\.model\.text_projection"):
        detect(tensors, {})


@pytest.mark.parametrize("family", [Family.SD1, Family.SDXL])
def test_any_one_tensor_may_be_lost_or_misshapen_without_another_kind_of_error(family):
    """Every tensor of a tiny model in turn: the answer is the same, or one of Hayate's own errors."""
    tensors = table(tiny_config(family))
    for name, one in list(tensors.items()):
        for odd in ({}, {name: info()}, {name: info(0)}, {name: info(*one.shape, 1)}, {name: info(7, 7)}):
            changed = {other: kept for other, kept in tensors.items() if other != name} | odd
            try:
                detect(changed, {"hayate.config": json.dumps({})})
            except (RefusedFormat, TensorMismatch, BrokenFile) as error:
                assert error.message  # noqa: PT017 (any of many may be raised, or none)
