"""Block weights: published presets, the block of every tensor, and what the texts of weights and rules mean."""

from __future__ import annotations

import pytest

from hayate.bench.random_model import shapes_of
from hayate.errors import UnknownName, UsageError
from hayate.models.config import SD1, SDXL, Family
from hayate.weights.detect import UNET_PREFIX
from hayate.weights.merge_blocks import PRESETS, SD_BLOCKS, XL_BLOCKS, block_of, blocks_of, read_ratio

IN04 = UNET_PREFIX + "input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight"
OUT05 = UNET_PREFIX + "output_blocks.5.1.transformer_blocks.0.attn2.to_out.0.weight"
TEXT = "cond_stage_model.transformer.text_model.final_layer_norm.weight"

PUBLISHED = {
    "GRAD_V": "0,1,0.9166666667,0.8333333333,0.75,0.6666666667,0.5833333333,0.5,0.4166666667,0.3333333333,0.25,"
    "0.1666666667,0.0833333333,0,0.0833333333,0.1666666667,0.25,0.3333333333,0.4166666667,0.5,0.5833333333,"
    "0.6666666667,0.75,0.8333333333,0.9166666667,1.0",
    "GRAD_A": "0,0,0.0833333333,0.1666666667,0.25,0.3333333333,0.4166666667,0.5,0.5833333333,0.6666666667,0.75,"
    "0.8333333333,0.9166666667,1.0,0.9166666667,0.8333333333,0.75,0.6666666667,0.5833333333,0.5,0.4166666667,"
    "0.3333333333,0.25,0.1666666667,0.0833333333,0",
    "WRAP08": "0,1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1",
    "WRAP12": "0,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1,1",
    "WRAP14": "0,1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1,1,1",
    "WRAP16": "0,1,1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1",
    "MID12_50": "0,0,0,0,0,0,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0.5,0,0,0,0,0,0",
    "OUT07": "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1,1,1",
    "OUT12": "0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1,1,1,1",
    "RING08_5": "0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0,1,1,1,1,0,0,0,0,0,0",
    "RING10_5": "0,0,0,0,0,0,1,1,1,1,1,0,0,0,0,0,1,1,1,1,1,0,0,0,0,0",
    "RING10_3": "0,0,0,0,0,0,0,1,1,1,1,1,0,0,0,1,1,1,1,1,0,0,0,0,0,0",
    "SMOOTHSTEP": "0,0,0.00506365740740741,0.0196759259259259,0.04296875,0.0740740740740741,0.112123842592593,0.15625,"
    "0.205584490740741,0.259259259259259,0.31640625,0.376157407407407,0.437644675925926,0.5,0.562355324074074,"
    "0.623842592592592,0.68359375,0.740740740740741,0.794415509259259,0.84375,0.887876157407408,0.925925925925926,"
    "0.95703125,0.980324074074074,0.994936342592593,1",
    "COSINE": "0,1,0.995722430686905,0.982962913144534,0.961939766255643,0.933012701892219,0.896676670145617,"
    "0.853553390593274,0.80438071450436,0.75,0.691341716182545,0.62940952255126,0.565263096110026,0.5,"
    "0.434736903889974,0.37059047744874,0.308658283817455,0.25,0.195619285495639,0.146446609406726,"
    "0.103323329854382,0.0669872981077805,0.0380602337443566,0.0170370868554658,0.00427756931309475,0",
    "FLAT_25": "0" + ",0.25" * 25,
    "FLAT_75": "0" + ",0.75" * 25,
    "ALL_A": "0" + ",0" * 25,
    "ALL_B": "1" + ",1" * 25,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_are_the_published_numbers(name: str) -> None:
    assert PRESETS[name] == pytest.approx([float(each) for each in PUBLISHED[name].split(",")], abs=1e-9)


@pytest.mark.parametrize("name", ["SMOOTHSTEP", "COSINE"])
def test_reversed_presets_are_the_others_from_behind(name: str) -> None:
    other = {"SMOOTHSTEP": "REVERSE-SMOOTHSTEP", "COSINE": "REVERSE_COSINE"}[name]
    assert PRESETS[other][1:] == pytest.approx(PRESETS[name][:0:-1])


@pytest.mark.parametrize(("config", "count"), [(SD1, 26), (SDXL, 20)])
def test_every_block_of_a_published_model_has_tensors_and_every_tensor_a_block(config, count: int) -> None:
    found = {block_of(name, config.family) for name in shapes_of(config)}
    assert found == set(blocks_of(config.family))
    assert len(found) == count


@pytest.mark.parametrize(
    ("name", "family", "block"),
    [
        (TEXT, Family.SD1, "BASE"),
        ("first_stage_model.decoder.conv_in.weight", Family.SD1, "BASE"),
        (UNET_PREFIX + "time_embed.0.weight", Family.SD1, "IN00"),
        (UNET_PREFIX + "label_emb.0.0.weight", Family.SDXL, "IN00"),
        (UNET_PREFIX + "input_blocks.11.0.in_layers.0.weight", Family.SD1, "IN11"),
        (UNET_PREFIX + "middle_block.1.norm.weight", Family.SD1, "M00"),
        (UNET_PREFIX + "out.2.weight", Family.SD1, "OUT11"),
        (UNET_PREFIX + "out.2.weight", Family.SDXL, "OUT08"),
        (OUT05, Family.SD2, "OUT05"),
    ],
)
def test_blocks_are_those_of_merge_block_weighted(name: str, family: Family, block: str) -> None:
    assert block_of(name, family) == block


def test_26_numbers_hold_the_base_and_25_leave_it_to_the_ratio() -> None:
    numbers = ",".join(str(place / 100) for place in range(26))
    ratio = read_ratio(None, numbers)
    assert [ratio.at(name, Family.SD1) for name in (TEXT, IN04, OUT05)] == [0.0, 0.05, 0.19]
    beside = read_ratio(0.7, numbers.partition(",")[2])
    assert [beside.at(name, Family.SD1) for name in (TEXT, IN04, OUT05)] == [0.7, 0.05, 0.19]
    wide = read_ratio(None, ",".join(str(place / 100) for place in range(20)))
    assert [wide.at(name, Family.SDXL) for name in (TEXT, IN04, OUT05)] == [0.0, 0.05, 0.16]


def test_named_weights_change_their_blocks_only() -> None:
    ratio = read_ratio(0.1, "IN03-05 M00=0.4, OUT05-OUT06=0.6\nBASE-IN01=0.9")
    assert [ratio.at(name, Family.SD1) for name in (IN04, OUT05)] == [0.4, 0.6]
    assert ratio.at(UNET_PREFIX + "input_blocks.0.0.weight", Family.SD1) == 0.9
    assert ratio.at(UNET_PREFIX + "input_blocks.6.0.op.weight", Family.SD1) == 0.1


def test_a_preset_serves_sdxl_too_by_the_names_of_the_blocks() -> None:
    ratio = read_ratio(0.3, "grad_v")
    ratio.check(Family.SDXL)
    assert ratio.at(IN04, Family.SDXL) == pytest.approx(1 - 4 / 12)
    assert ratio.at(TEXT, Family.SDXL) == 0.3
    assert read_ratio(None, "ALL_B").at(TEXT, Family.SD1) == 1.0


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("IN04:attn:0.9", [0.9, 0.2, 0.2]),
        ("IN03-05 OUT05:attn2 attn1.to_q:0.9", [0.9, 0.9, 0.2]),
        (":attn:0.9", [0.9, 0.9, 0.2]),
        ("OUT05::0.9", [0.2, 0.9, 0.2]),
        ("NOT OUT05:attn:0.9", [0.9, 0.2, 0.2]),
        ("IN04 OUT05:NOT attn1:0.9", [0.2, 0.9, 0.2]),
        (":attn:0.9,IN04:attn1.to_q:0.4", [0.4, 0.9, 0.2]),
        ("BASE::0.9\n:attn2:0.5", [0.2, 0.5, 0.9]),
    ],
)
def test_rules_are_supermergers(rules: str, expected: list[float]) -> None:
    ratio = read_ratio(0.2, "", rules)
    assert [ratio.at(name, Family.SD1) for name in (IN04, OUT05, TEXT)] == expected


@pytest.mark.parametrize(
    ("base", "mbw", "rules", "said"),
    [
        (None, "", "", "ratio is missing"),
        (0.5, "0.1,0.2", "", "2 block weights"),
        (0.5, ",".join(["0"] * 26), "", "BASE already"),
        (0.5, ",".join(["x"] * 25), "", "no number"),
        (0.5, ",".join(["nan"] * 25), "", "no number"),
        (0.5, "IN3=0.1", "", "unknown block"),
        (0.5, "IN12=0.1", "", "unknown block"),
        (0.5, "IN04-02=0.1", "", "unknown block"),
        (0.5, "IN04", "", "preset"),
        (0.5, "", "IN04:attn", "three parts"),
        (0.5, "", "IN04:attn:much", "no number"),
        (0.5, "", "INX:attn:0.1", "unknown block"),
    ],
)
def test_wrong_weights_are_one_line(base: float | None, mbw: str, rules: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        read_ratio(base, mbw, rules)
    assert caught.value.hint


def test_a_misspelt_preset_has_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        read_ratio(0.5, "GRAD_W")
    assert caught.value.nearest[0] in ("GRAD_V", "GRAD_A")


@pytest.mark.parametrize("text", ["IN09=0.1", ",".join(["0"] * 26)])
def test_blocks_that_a_family_does_not_have_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="SDXL has no block"):
        read_ratio(None if "," in text else 0.5, text).check(Family.SDXL)


def test_the_tables_have_the_published_lengths() -> None:
    assert (len(SD_BLOCKS), len(XL_BLOCKS)) == (26, 20)
