"""LoRAs in standing weights: the sums of the published formulas, no drift, the clean weights back to the last bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hayate.engines.loras import LoraEditor, LoraUse
from hayate.engines.networks import Networks, load_networks
from hayate.errors import BrokenFile, TensorMismatch
from hayate.models.config import Family, ModelConfig
from hayate.models.unet import UNet
from hayate.runtime.offload import Offloader
from hayate.runtime.precision import resolve_precision
from hayate.runtime.prepare import PLAIN, Preparation
from tests.lora_files import MAKERS, Maker, array, random, save
from tests.models.diffusers_names import UNET_RES, unet_prefixes
from tests.tiny_models import write_tiny

CPU = torch.device("cpu")
PREPARATIONS = {
    "plain": PLAIN,
    "fused": Preparation(is_fused=True),
    "channels-last": Preparation(is_channels_last=True),
    "packed": Preparation(is_fused=True, is_packed=True),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Family, Path]:
    folder = tmp_path_factory.mktemp("models")
    paths = {family: folder / f"{family}.safetensors" for family in (Family.SD1, Family.SD2, Family.SDXL)}
    for family, path in paths.items():
        write_tiny(path, family)
    return paths


def networks_of(path: Path, preparation: Preparation = PLAIN, dtype: str = "fp32") -> Networks:
    return load_networks(path, CPU, resolve_precision(dtype, CPU), preparation)


def editor_of(networks: Networks) -> LoraEditor:
    return LoraEditor(networks.config, dict(enumerate(networks.modules)))


def use(path: Path, strength: float = 1.0, text: float | None = None) -> LoraUse:
    return LoraUse(name=path.stem, path=path, unet=strength, text=strength if text is None else text)


def weights_of(networks: Networks) -> dict[str, torch.Tensor]:
    """Copies of all parameters of plain networks, by number and name."""
    return {
        f"{number}:{name}": parameter.detach().clone()
        for number, network in enumerate(networks.modules)
        for name, parameter in network.named_parameters()
    }


def digest(networks: Networks) -> str:
    """Of all bytes that the networks compute with, packed and fused ones too."""
    found = hashlib.sha256()
    for network in networks.modules:
        for module in network.modules():
            for name, value in sorted({**module.__dict__, **module._parameters}.items()):
                for tensor in value if isinstance(value, tuple) else (value,):
                    if isinstance(tensor, torch.Tensor):
                        plain = tensor.to_dense() if tensor.is_mkldnn else tensor.detach()
                        found.update(name.encode())
                        found.update(plain.flatten().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def diffusers_layers(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """diffusers' and the original name of layers of each sort, by the parity tests' table."""
    back = {new: old for old, new in UNET_RES.items()}
    depths = config.unet.transformer_depths
    for theirs, ours in unet_prefixes(config.unet).items():
        if ".resnets." in theirs:
            yield from ((f"{theirs}{back[inner]}", f"{ours}{inner}") for inner in ("in_layers.2", "emb_layers.1"))
        elif ".attentions." in theirs:
            if theirs.startswith(("down", "up")):
                level = int(theirs.split(".")[1])
                if not (depths if theirs.startswith("down") else depths[::-1])[level]:
                    continue  # the table has a line for every level, also for those without attention
            for inner in ("proj_in", "transformer_blocks.0.attn1.to_k", "transformer_blocks.0.attn2.to_out.0"):
                yield f"{theirs}{inner}", f"{ours}{inner}"
            yield f"{theirs}transformer_blocks.0.ff.net.0.proj", f"{ours}transformer_blocks.0.ff.net.0.proj"
        elif "downsamplers" in theirs:
            yield theirs.removesuffix("."), ours.removesuffix(".")
        else:
            yield f"{theirs}conv", f"{ours}conv"
    yield "conv_in", "input_blocks.0.0"
    yield "time_embedding.linear_1", "time_embed.0"


def kohya(name: str) -> str:
    return "lora_unet_" + name.replace(".", "_")


def every_layer(path: Path, networks: Networks, maker: Maker = MAKERS[0]) -> Path:
    """A file of one kind for every layer of the U-Net, by its original name, that the kind is for."""
    torch.manual_seed(5)
    layers = {
        kohya(name.removesuffix(".weight")): maker.parts(parameter.shape)
        for name, parameter in networks.unet.named_parameters()
        if name.endswith(".weight") and maker.is_for(parameter.shape)
    }
    return save(path, layers)


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.title)
def test_every_kind_adds_what_its_formula_says(maker: Maker, models: dict[Family, Path], tmp_path: Path) -> None:
    torch.manual_seed(11)
    networks = networks_of(models[Family.SD1])
    before = weights_of(networks)
    layers, expected = {}, {}
    for theirs, ours in [*diffusers_layers(networks.config), ("conv_norm_out", "out.0")]:
        weight = before[f"0:{ours}.weight"]
        if maker.is_for(weight.shape) and weight.shape[1:2] != (4,):  # four channels are too few for some kinds
            parts = layers[kohya(theirs)] = maker.parts(weight.shape)
            expected[f"0:{ours}.weight"] = array(weight) + 0.7 * maker.reference(parts, array(weight))
            if "b_norm" in parts:
                bias = f"0:{ours}.bias"
                expected[bias] = array(before[bias]) + 0.7 * array(parts["b_norm"])
    assert expected
    editor_of(networks).apply([use(save(tmp_path / "one.safetensors", layers), 0.7)])
    for name, weight in weights_of(networks).items():
        if name in expected:
            assert np.abs(array(weight) - expected[name]).max() <= 1e-5
            assert not torch.equal(weight, before[name])
        else:
            assert torch.equal(weight, before[name])


@pytest.mark.parametrize("family", [Family.SD1, Family.SD2, Family.SDXL])
def test_names_of_kohya_and_diffusers_give_the_same_weights(
    family: Family, models: dict[Family, Path], tmp_path: Path
) -> None:
    torch.manual_seed(3)
    networks = networks_of(models[family])
    clean = weights_of(networks)
    first = "lora_te_" if len(networks.text) == 1 else "lora_te1_"
    text = "text_model.encoder.layers.1."
    names = {f"unet.{theirs}": kohya(theirs) for theirs, _ in diffusers_layers(networks.config)}
    shapes = {f"unet.{theirs}": clean[f"0:{ours}.weight"].shape for theirs, ours in diffusers_layers(networks.config)}
    for number, prefix in enumerate((first, "lora_te2_")[: len(networks.text)], start=1):
        width = networks.config.text[number - 1].width
        for inner, shape in {
            "self_attn.q_proj": (width, width),
            "self_attn.v_proj": (width, width),
            "self_attn.out_proj": (width, width),
            "mlp.fc1": (2 * width, width),
        }.items():
            dotted = f"text_encoder{'_2' if number == 2 else ''}.{text}{inner}"
            names[dotted], shapes[dotted] = prefix + f"{text}{inner}".replace(".", "_"), shape
    layers = {dotted: MAKERS[0].parts(shape) for dotted, shape in shapes.items()}
    for parts in layers.values():
        del parts["alpha"]
    ways = {
        "kohya": {names[dotted]: parts for dotted, parts in layers.items()},
        "peft": {
            dotted: {"lora_A.weight": parts["lora_down.weight"], "lora_B.weight": parts["lora_up.weight"]}
            for dotted, parts in layers.items()
        },
        "diffusers": {
            dotted: {"lora.down.weight": parts["lora_down.weight"], "lora.up.weight": parts["lora_up.weight"]}
            for dotted, parts in layers.items()
        },
    }
    results = {}
    editor = editor_of(networks)
    for way, written in ways.items():
        editor.apply([use(save(tmp_path / f"{way}.safetensors", written))])
        assert editor.notes == ()
        results[way] = weights_of(networks)
        assert sum(not torch.equal(results[way][name], clean[name]) for name in clean) >= len(layers) - 6
    for name, weight in results["kohya"].items():
        assert torch.equal(weight, results["peft"][name])
        assert torch.equal(weight, results["diffusers"][name])
    query = ways["kohya"][f"{first}{text.replace('.', '_')}self_attn_q_proj"]
    where = "1:encoder.layers.1.self_attn.q_proj.weight"
    if where in clean:
        ours, old = results["kohya"][where], clean[where]
    else:
        ours, old = (
            each["1:transformer.resblocks.1.attn.in_proj_weight"].chunk(3)[0] for each in (results["kohya"], clean)
        )
    torch.testing.assert_close(ours, old + query["lora_up.weight"] @ query["lora_down.weight"], rtol=0, atol=1e-5)


def test_old_names_of_diffusers_processors_are_known(models: dict[Family, Path], tmp_path: Path) -> None:
    networks = networks_of(models[Family.SD1])
    block = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    parts = MAKERS[0].parts((32, 32))
    up, down = parts["lora_up.weight"], parts["lora_down.weight"]
    old = {
        f"unet.{block}.processor.to_q_lora": {"up.weight": up, "down.weight": down},
        f"unet.{block}.processor.to_out_lora": {"up.weight": up.clone(), "down.weight": down.clone()},
    }
    before = weights_of(networks)
    editor = editor_of(networks)
    editor.apply([use(save(tmp_path / "old.safetensors", old))])
    assert editor.notes == ()
    for inner in ("to_q", "to_out.0"):
        name = f"0:input_blocks.1.1.transformer_blocks.0.attn1.{inner}.weight"
        torch.testing.assert_close(weights_of(networks)[name], before[name] + up @ down, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "title",
    [
        "LoRA",
        "LoHa",
        "DoRA by output",
        "IA3 on input",
        "full",
        "norm",
        "OFT oft_diag None",
        "LoKr with a core",
        "GLoRA new",
    ],
)
@pytest.mark.parametrize("preparation", PREPARATIONS.values(), ids=PREPARATIONS)
def test_prepared_networks_compute_what_plain_ones_do(
    preparation: Preparation, title: str, models: dict[Family, Path], tmp_path: Path
) -> None:
    maker = next(maker for maker in MAKERS if maker.title == title)
    plain, prepared = networks_of(models[Family.SD1]), networks_of(models[Family.SD1], preparation)
    path = every_layer(tmp_path / "all.safetensors", plain, maker)
    clean = outputs(plain.unet)
    for networks in (plain, prepared):
        editor_of(networks).apply([use(path, 0.1)])
    expected, found = outputs(plain.unet), outputs(prepared.unet)
    scale = expected.abs().max()
    assert (expected - clean).abs().max() > 1e-2
    assert (found - expected).abs().max() <= 1e-4 * scale


def outputs(unet: UNet) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    x, context = torch.randn(1, 4, 16, 16, generator=generator), torch.randn(1, 77, 64, generator=generator)
    with torch.inference_mode():
        return unet(x, torch.tensor([500.0]), context)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("preparation", PREPARATIONS.values(), ids=PREPARATIONS)
def test_removal_gives_back_every_bit(
    preparation: Preparation, dtype: str, models: dict[Family, Path], tmp_path: Path
) -> None:
    networks = networks_of(models[Family.SD1], preparation, dtype)
    path = every_layer(tmp_path / "all.safetensors", networks_of(models[Family.SD1]))
    norms = every_layer(tmp_path / "norm.safetensors", networks_of(models[Family.SD1]), norm_maker())
    editor, clean = editor_of(networks), digest(networks)
    editor.apply([use(path), use(norms)])
    changed = digest(networks)
    assert changed != clean
    editor.apply([use(path, 0.5)])
    editor.apply([])
    assert digest(networks) == clean
    editor.apply([use(norms), use(path)])
    assert digest(networks) == changed


def norm_maker() -> Maker:
    return next(maker for maker in MAKERS if maker.title == "norm")


def test_a_thousand_applications_do_not_drift(models: dict[Family, Path], tmp_path: Path) -> None:
    networks = networks_of(models[Family.SD1], PREPARATIONS["packed"], "bf16")
    plain = networks_of(models[Family.SD1])
    layers = {"middle_block_1_transformer_blocks_0_attn1_to_q": (64, 64), "input_blocks_1_1_proj_in": (32, 32, 1, 1)}
    files = []
    for number in range(3):
        torch.manual_seed(number)
        parts = {f"lora_unet_{name}": MAKERS[0].parts(shape) for name, shape in layers.items()}
        files.append(save(tmp_path / f"{number}.safetensors", parts))
    del plain
    editor, clean = editor_of(networks), digest(networks)
    editor.apply([use(files[0], 0.8)])
    first = digest(networks)
    for turn in range(1000):
        editor.apply([use(files[turn % 3], 0.1 + turn % 7)])
        if turn % 4 == 0:
            editor.apply([])
    editor.apply([use(files[0], 0.8)])
    assert digest(networks) == first
    editor.apply([])
    assert digest(networks) == clean


def test_two_loras_are_a_sum_in_either_order(models: dict[Family, Path], tmp_path: Path) -> None:
    networks = networks_of(models[Family.SD1])
    paths = [every_layer(tmp_path / f"{index}.safetensors", networks, MAKERS[index]) for index in (0, 6)]
    before = weights_of(networks)
    editor, sums = editor_of(networks), []
    for path in paths:
        editor.apply([use(path, 0.3)])
        sums.append({name: weight - before[name] for name, weight in weights_of(networks).items()})
    editor.apply([use(paths[0], 0.3), use(paths[1], 0.3)])
    one = weights_of(networks)
    editor.apply([])
    editor.apply([use(paths[1], 0.3), use(paths[0], 0.3)])
    for name, weight in weights_of(networks).items():
        assert torch.equal(weight, one[name])
        torch.testing.assert_close(weight, before[name] + sums[0][name] + sums[1][name], rtol=0, atol=1e-5)


def test_the_same_set_again_does_nothing(models: dict[Family, Path], tmp_path: Path) -> None:
    networks = networks_of(models[Family.SD1])
    path = every_layer(tmp_path / "all.safetensors", networks)
    editor = editor_of(networks)
    assert editor.evidence() is None
    versions = []
    for _ in range(3):
        editor.apply([use(path)])
        versions.append([parameter._version for parameter in networks.unet.parameters()])
    assert versions[0] == versions[1] == versions[2]
    evidence = editor.evidence()
    assert evidence is not None
    assert evidence.active
    assert "edit 1 " in evidence.detail


def test_strengths_are_of_the_text_encoder_and_of_the_unet(models: dict[Family, Path], tmp_path: Path) -> None:
    networks = networks_of(models[Family.SD1])
    before = weights_of(networks)
    parts = {
        "lora_te_text_model_encoder_layers_0_mlp_fc1": MAKERS[0].parts((128, 64)),
        "lora_unet_mid_block_attentions_0_proj_out": MAKERS[0].parts((64, 64, 1, 1)),
    }
    path = save(tmp_path / "both.safetensors", parts)
    text, unet = "1:encoder.layers.0.mlp.fc1.weight", "0:middle_block.1.proj_out.weight"
    editor = editor_of(networks)
    editor.apply([use(path, 0.0, 0.5)])
    after = weights_of(networks)
    assert torch.equal(after[unet], before[unet])
    delta = 0.5 * MAKERS[0].reference(parts["lora_te_text_model_encoder_layers_0_mlp_fc1"], array(before[text]))
    np.testing.assert_allclose(array(after[text]), array(before[text]) + delta, atol=1e-6)


def test_fewer_directions_act_where_the_prompt_says_so(models: dict[Family, Path], tmp_path: Path) -> None:
    networks = networks_of(models[Family.SD1])
    name = "0:middle_block.1.transformer_blocks.0.attn2.to_q.weight"
    before = weights_of(networks)[name]
    parts = MAKERS[0].parts((64, 64))
    path = save(
        tmp_path / "dyn.safetensors", {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q": parts}
    )
    editor_of(networks).apply([LoraUse(name="dyn", path=path, rank=1)])
    up, down = array(parts["lora_up.weight"]), array(parts["lora_down.weight"])
    expected = array(before) + 2.0 / 3 * np.outer(up[:, 0], down[0])
    np.testing.assert_allclose(array(weights_of(networks)[name]), expected, atol=1e-6)


def test_unknown_layers_are_counted_and_named(models: dict[Family, Path], tmp_path: Path) -> None:
    networks = networks_of(models[Family.SD1])
    parts = {
        "lora_unet_mid_block_attentions_0_proj_in": MAKERS[0].parts((64, 64, 1, 1)),
        "lora_unet_nowhere_at_all": MAKERS[0].parts((8, 8)),
        "lora_unet_conv_in": {"something_new": random(4, 4)},
    }
    editor = editor_of(networks)
    editor.apply([use(save(tmp_path / "some.safetensors", parts))])
    (note,) = editor.notes
    assert "2 of its layers" in note
    assert "something_new" in note


BAD = {
    "another family": ({"lora_te2_text_model_encoder_layers_0_mlp_fc1": MAKERS[0].parts((8, 8))}, "SDXL"),
    "Flux": ({"lora_unet_double_blocks_0_img_attn_qkv": MAKERS[0].parts((8, 8))}, "Flux"),
    "another width": (
        {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": MAKERS[0].parts((320, 2048))},
        "for SDXL",
    ),
    "nothing known": (
        {"some.layer": {"lora_up.weight": random(4, 4), "lora_down.weight": random(4, 4)}},
        "none of its",
    ),
}


@pytest.mark.parametrize(("layers", "words"), BAD.values(), ids=BAD)
def test_a_file_for_another_model_is_refused(layers, words, models: dict[Family, Path], tmp_path: Path) -> None:
    networks = networks_of(models[Family.SD1])
    editor, clean = editor_of(networks), digest(networks)
    path = save(tmp_path / "bad.safetensors", layers)
    with pytest.raises(TensorMismatch, match=words):
        editor.apply([use(path)])
    assert digest(networks) == clean


def test_a_lost_half_and_numbers_that_are_none_are_refused_and_the_weights_are_clean(
    models: dict[Family, Path], tmp_path: Path
) -> None:
    networks = networks_of(models[Family.SD1])
    editor, clean = editor_of(networks), digest(networks)
    good = every_layer(tmp_path / "good.safetensors", networks)
    name = "lora_unet_mid_block_attentions_0_proj_in"
    half, none = MAKERS[0].parts((64, 64, 1, 1)), MAKERS[0].parts((64, 64, 1, 1))
    del half["lora_up.weight"]
    none["lora_down.weight"][1, 2] = float("nan")
    bad = [save(tmp_path / f"{stem}.safetensors", {name: parts}) for stem, parts in (("half", half), ("nan", none))]
    (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:-100])
    for path, words in ((bad[0], "no up"), (bad[1], "not finite"), (tmp_path / "cut.safetensors", "truncated|bytes")):
        editor.apply([use(good)])
        with pytest.raises(BrokenFile, match=words):
            editor.apply([use(good), use(path)])
        assert digest(networks) == clean
        assert editor.evidence() is None


@pytest.mark.parametrize("maker", [maker for maker in MAKERS if maker.title != "norm"], ids=lambda maker: maker.title)
def test_parts_that_do_not_belong_together_are_refused(
    maker: Maker, models: dict[Family, Path], tmp_path: Path
) -> None:
    networks = networks_of(models[Family.SD1])
    editor, clean = editor_of(networks), digest(networks)
    layers = {"mid_block.resnets.0.conv1": (64, 64, 3, 3), "mid_block.resnets.0.time_emb_proj": (64, 128)}
    tried = 0
    for name, shape in layers.items():
        parts = maker.parts(shape) if maker.is_for(shape) else {}
        for part, tensor in parts.items():
            if tensor.dim():
                for dim in range(min(tensor.dim(), 2)):
                    short = tensor.narrow(dim, 0, tensor.shape[dim] - 1) if tensor.shape[dim] > 1 else tensor[:0]
                    path = save(tmp_path / f"{tried}.safetensors", {kohya(name): {**parts, part: short}})
                    with pytest.raises(TensorMismatch):
                        editor.apply([use(path)])
                    tried += 1
    assert tried > 1
    assert digest(networks) == clean


def test_weights_that_are_at_home_are_changed_there(models: dict[Family, Path], tmp_path: Path) -> None:
    networks = networks_of(models[Family.SD1])
    path = every_layer(tmp_path / "all.safetensors", networks)
    expected = networks_of(models[Family.SD1])
    editor_of(expected).apply([use(path)])
    editor = editor_of(networks)
    offloader = Offloader(networks.unet, networks.text, nn.Linear(1, 1), CPU, is_streamed=False)
    for loras, other in (([use(path)], expected), ([], networks_of(models[Family.SD1]))):
        offloader.bring("unet")
        offloader.send_home()
        editor.apply(loras)
        offloader.bring("unet")
        torch.testing.assert_close(outputs(networks.unet), outputs(other.unet), rtol=0, atol=1e-5)
