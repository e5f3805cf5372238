"""Recipes: the grammar, what each mistake is told, and what decides a tensor."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hayate.errors import HayateError, UnknownName, UsageError
from hayate.models.config import Family
from hayate.weights.detect import UNET_PREFIX
from hayate.weights.merge_nodes import Blend, Model, WithLoras
from hayate.weights.merge_recipe import is_recipe, parse_recipe, quoted

IN04 = UNET_PREFIX + "input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight"
OUT05 = UNET_PREFIX + "output_blocks.5.0.in_layers.2.weight"


def test_names_may_have_what_files_names_have() -> None:
    recipe = parse_recipe("""merge(anything-v3.0, sd v1.5 [6ce0161689], 0.35, mbw="IN04=1")""")
    assert recipe.inputs == ("anything-v3.0", "sd v1.5 [6ce0161689]")
    assert parse_recipe("""merge("a (2), b=c", 'say "x"', .5)""").inputs == ("a (2), b=c", 'say "x"')
    assert parse_recipe('merge("0.5", A, 0.5)').inputs == ("0.5", "A")
    assert parse_recipe("merge(日本語, sub/dir/x.safetensors, 1e-1)").inputs == ("日本語", "sub/dir/x.safetensors")


def test_a_name_alone_is_no_interpolation() -> None:
    recipe = parse_recipe(" my model.safetensors ")
    assert recipe.root == Model(name="my model.safetensors")
    assert not recipe.is_merge


def test_expressions_nest_and_inputs_are_counted_once() -> None:
    recipe = parse_recipe("add_difference(A, merge(B, lora(A, x, 0.8, y), 0.3), sum_twice(C, B, A, .1, .2), 0.7)")
    assert recipe.inputs == ("A", "B", "C")
    assert recipe.loras == ("x", "y")
    assert isinstance(recipe.root, Blend)
    middle = recipe.root.parts[1]
    assert isinstance(middle, Blend)
    assert middle.parts[1] == WithLoras(part=Model(name="A"), loras=(("x", 0.8), ("y", 1.0)))


def test_ratios_may_have_their_names_and_synonyms_mean_the_same() -> None:
    assert parse_recipe("merge(A, B, alpha=0.3)").root == parse_recipe("weighted_sum(A, B, 0.3)").root
    assert parse_recipe("triple_sum(A,B,C,.1,beta=.2)").root == parse_recipe("triple_sum(A,B,C,beta=.2,alpha=.1)").root


def test_the_json_of_a_saved_recipe_is_one() -> None:
    saved = json.dumps({"type": "hayate", "expression": "merge(A, B, 0.35)"})
    assert parse_recipe(saved) == parse_recipe("merge(A, B, 0.35)")
    assert is_recipe(saved)
    assert is_recipe("merge (A, B, 1)")
    assert not any(map(is_recipe, ("A", "merge", "model (1)", "{}", "{", '{"type": "x"}')))


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20))
@settings(deadline=None)
def test_a_quoted_name_is_read_again(name: str) -> None:
    if ("'" in name and '"' in name) or not name.strip():
        return
    assert parse_recipe(f"merge({quoted(name)}, B, 0.5)").inputs[0] == name


@given(st.text("merge(A,B0.5)='\" xcal[]{}:\n\\", max_size=60))
@settings(deadline=None, max_examples=400)
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        parse_recipe(text)
    except HayateError as error:
        told = error
    else:
        return
    assert told.message
    assert told.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the end at character 1"),
        ("merge(A, B, 0.3", "the end at character 16"),
        ("merge(A, B, 0.3))", "'\\)' at character 17"),
        ("merge(A, B 0.3)", "a ratio is missing|1 model"),
        ("merge(A, 'B, 0.3)", "never ends"),
        ("merge(A, B)", "a ratio is missing"),
        ("merge(A, 0.3)", "has 1 model"),
        ("merge(A, B, C, 0.3)", "has 3 models"),
        ("merge(A, B, 0.3, 0.4)", "2 numbers"),
        ("merge(A, B, 0.3, alpha=0.4)", "twice"),
        ("merge(A, B, 0.3, mbw=ALL_A, mbw=ALL_B)", "twice"),
        ("merge(A, B, nan, 0.3, gama=1)", "unknown key"),
        ("merge(A, B, alpha=nan)", "no number"),
        ("merge(A, B, alpha=1e999)", "no number"),
        ("merge(A, B, 0.3, mbw_beta=ALL_A)", "two ratios"),
        ("merge(A, B, 0.3, calc=trainDifference)", "can't calculate"),
        ("merge(A, B, 1.5, calc=tensor)", "can't take the ratio"),
        ("ties(A, B, 0.3, keep=2)", "out of range"),
        ("dare(A, B, 0.3, drop=1)", "out of range"),
        ("lora(A)", "needs a model and a LoRA"),
        ("lora(A, 0.5)", "names and strengths"),
        ("lora(A, x, merge(A, B, 1))", "names and strengths"),
        ("lora(A, x, te=1)", "unknown key"),
        ("merge(merge, '', 1)", "empty name"),
        ("(" * 50, "a model or a method"),
        ("merge(" * 50, "nested too deeply"),
        ("A" * 30_000, "30,000 characters"),
    ],
)
def test_each_mistake_is_told(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse_recipe(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("mergee(A, B, 0.3)", "merge"),
        ("tripel_sum(A, B, C, 0.3, 0.1)", "triple_sum"),
        ("merge(A, B, 0.3, mwb=ALL_A)", "mbw"),
        ("merge(A, B, 0.3, calc=cosinA)", "cosineA"),
        ("merge(A, B, 0.3, mbw=GRADV)", "GRAD_V"),
    ],
)
def test_misspelt_words_have_the_nearest(text: str, near: str) -> None:
    with pytest.raises(UnknownName) as caught:
        parse_recipe(text)
    assert caught.value.nearest[0] == near


def test_nothing_is_run() -> None:
    for text in ('__import__("os").system("x")', "merge(A, B, 1+1)", "exec(A, 1)"):
        with pytest.raises(UsageError):
            parse_recipe(text)


def test_a_tensors_key_is_made_of_what_decides_it() -> None:
    one, other = (parse_recipe(f'merge(A, B, 0.3, mbw="IN04={value}")') for value in ("0.1", "0.2"))
    assert one.key(IN04) != other.key(IN04)
    assert one.key(OUT05) == other.key(OUT05)
    assert one.key(OUT05) == parse_recipe("merge(A, B, 0.3)").key(OUT05)
    inner, outer = (parse_recipe(f'merge(merge(A, B, 0.1, mbw="IN04={value}"), C, 0.5)') for value in ("1", "0"))
    assert inner.key(IN04) != outer.key(IN04)
    assert inner.key(OUT05) == outer.key(OUT05)


def test_every_tensor_of_a_cosine_merge_depends_on_all_of_its_models() -> None:
    one, other = (
        parse_recipe(f'merge(merge(A, B, 0.1, mbw="IN04={value}"), C, 0.5, calc=cosineA)') for value in ("0.1", "0.2")
    )
    assert one.key(OUT05) != other.key(OUT05)


def test_block_weights_of_another_family_are_refused() -> None:
    recipe = parse_recipe(f'merge(A, B, mbw="{",".join(["0.5"] * 26)}")')
    assert recipe.for_family(Family.SD2).family is Family.SD2
    with pytest.raises(UsageError, match="SDXL has no block"):
        recipe.for_family(Family.SDXL)
