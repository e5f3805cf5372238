"""The merger's form and the recipes' own reader agree: what a form says is what the recipe is read as."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hayate.errors import UsageError
from hayate.models.config import Family
from hayate.server.ui.recipes import ALONE, RatioFields, RecipeFields, recipe_of
from hayate.weights.merge_blocks import PRESETS, SD_BLOCKS, XL_BLOCKS
from hayate.weights.merge_nodes import METHODS, Blend, Model, WithLoras
from hayate.weights.merge_recipe import parse_recipe

NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(
    lambda name: name.strip() and not ("'" in name and '"' in name)
)
NUMBERS = st.floats(0, 1).map(lambda value: round(value, 4))


def blend(fields: RecipeFields) -> Blend:
    root = recipe_of(fields).root
    assert isinstance(root, Blend)
    return root


@pytest.mark.parametrize("method", METHODS)
def test_every_way_to_merge_can_be_filled_in(method: str) -> None:
    about = METHODS[method]
    for calc in about.calcs:
        ratios = (RatioFields(number=0.25), RatioFields(number=0.5))
        names = ("a", "b.safetensors", "c [0123456789]")[: about.models[0]]
        root = blend(RecipeFields(method=method, calc=calc, models=names, ratios=ratios))
        assert (root.method, root.calc) == (method, calc)
        assert tuple(part.name for part in root.parts if isinstance(part, Model)) == names
        assert [ratio.base for ratio in root.ratios] == [0.25, 0.5][: about.ratios]


@given(st.lists(NAMES, min_size=2, max_size=2), NUMBERS, st.lists(st.tuples(NAMES, NUMBERS), max_size=3))
@settings(deadline=None)
def test_any_names_come_back(names: list[str], ratio: float, loras: list[tuple[str, float]]) -> None:
    root = recipe_of(RecipeFields(models=tuple(names), ratios=(RatioFields(number=ratio),), loras=tuple(loras))).root
    if isinstance(root, WithLoras):
        assert root.loras == tuple((name.strip(), strength) for name, strength in loras)
        root = root.part
    assert isinstance(root, Blend)
    assert [part.name for part in root.parts if isinstance(part, Model)] == [name.strip() for name in names]
    assert root.ratios[0].base == ratio


@pytest.mark.parametrize(("blocks", "family"), [(SD_BLOCKS, Family.SD1), (XL_BLOCKS, Family.SDXL)])
def test_sliders_of_every_block_are_its_ratio_and_leave_the_number_out(blocks: tuple[str, ...], family: Family) -> None:
    values = [round(place / 32, 5) for place in range(len(blocks))]
    text = ",".join(map(str, values))
    fields = RecipeFields(models=("A", "B"), ratios=(RatioFields(number=0.9, blocks=text),))
    recipe = recipe_of(fields).for_family(family)
    assert isinstance(recipe.root, Blend)
    ratio = recipe.root.ratios[0]
    assert ratio.base == values[0]
    assert dict(ratio.blocks) == dict(zip(blocks[1:], values[1:], strict=True))


def test_presets_have_their_own_base_and_single_blocks_take_the_number() -> None:
    for preset in PRESETS:
        ratio = blend(RecipeFields(models=("A", "B"), ratios=(RatioFields(number=0.9, blocks=preset),))).ratios[0]
        assert ratio.base == PRESETS[preset][0]
    some = blend(RecipeFields(models=("A", "B"), ratios=(RatioFields(number=0.9, blocks="IN00-01=0.2\nM00=1"),)))
    assert some.ratios[0].base == 0.9
    assert dict(some.ratios[0].blocks) == {"IN00": 0.2, "IN01": 0.2, "M00": 1.0}


def test_the_second_ratio_has_blocks_of_its_own() -> None:
    ratios = (RatioFields(number=0.5, blocks="GRAD_V", rules="OUT03:attn:0.1\nM00::1"), RatioFields(number=0.25))
    root = blend(RecipeFields(method="sum_twice", models=("A", "B", "C"), ratios=ratios))
    assert [ratio.base for ratio in root.ratios] == [0.0, 0.25]
    assert len(root.ratios[0].rules) == 2


def test_no_interpolation_is_the_model_itself_with_its_loras() -> None:
    assert recipe_of(RecipeFields(method=ALONE, models=("a model",))).root == Model(name="a model")
    root = recipe_of(RecipeFields(method=ALONE, models=("A",), loras=(("x", 0.8),))).root
    assert root == WithLoras(part=Model(name="A"), loras=(("x", 0.8),))


def test_what_is_the_default_is_not_written() -> None:
    fields = RecipeFields(method="dare", models=("A", "B", "", "C"), options=(("drop", 0.5), ("seed", 7.0)))
    assert recipe_of(fields).text == "dare(A, B, C, 0.3, seed=7)"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (RecipeFields(models=("A",)), "model B is not chosen"),
        (RecipeFields(method="add_difference", models=("A", "", "C")), "model B is not chosen"),
        (RecipeFields(method=ALONE), "model A is not chosen"),
        (RecipeFields(models=("A", "B"), ratios=()), "a ratio is missing"),
        (RecipeFields(models=("A", "B"), ratios=(RatioFields(number=float("nan")),)), "no number"),
        (RecipeFields(models=("A", "B"), ratios=(RatioFields(number=0.1, blocks="1,2,3"),)), "3 block weights"),
        (RecipeFields(models=("A", "B"), ratios=(RatioFields(number=0.1, rules="'\"::"),)), "both kinds of quotes"),
        (RecipeFields(models=("A", "B"), options=(("keep", 0.5),)), "unknown key of merge"),
        (RecipeFields(method="smerge", models=("A", "B")), "unknown way to merge"),
        (RecipeFields(models=("A", "B"), calc="extract"), "can't calculate by extract"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line_with_a_hint(fields: RecipeFields, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        recipe_of(fields)
    assert caught.value.hint


@given(st.builds(RatioFields, number=NUMBERS, blocks=st.text(max_size=20), rules=st.text(max_size=20)))
@settings(deadline=None)
def test_any_text_of_blocks_is_read_or_refused(ratio: RatioFields) -> None:
    try:
        recipe = recipe_of(RecipeFields(models=("A", "B"), ratios=(ratio,)))
    except UsageError:
        return
    assert parse_recipe(recipe.text).root == recipe.root
