"""Names of textual inversions in tokens: the longest is taken, and what stands for it is never parted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hayate.prompt.chunks import tokenize
from hayate.prompt.inversions import FIRST_VECTOR, NONE, inversions
from hayate.prompt.tokenizer import load_tokenizer

NAMES = ("ink", "ink wash", "Bad-Hands 5")


def tokens_of(text: str) -> tuple[int, ...]:
    return tuple(load_tokenizer().encode(text))


def test_the_longest_name_is_taken_and_case_does_not_matter() -> None:
    words = inversions((tokens_of(name), count) for name, count in zip(NAMES, (1, 3, 2), strict=True))
    ink, wash, hands = (
        (FIRST_VECTOR,),
        tuple(range(FIRST_VECTOR + 1, FIRST_VECTOR + 4)),
        (FIRST_VECTOR + 4, FIRST_VECTOR + 5),
    )
    (a,) = tokens_of("a")
    assert list(words.units(tokens_of("a Ink INK WASH ink bad-hands 5"))) == [(a,), ink, wash, ink, hands]
    assert next(words.units(tokens_of("bad-hands 6"))) == tokens_of("bad-hands 6")[:1]
    assert list(words.units(tokens_of("inkwell"))) == [(token,) for token in tokens_of("inkwell")], "another word"


@given(
    before=st.integers(0, 160),
    count=st.integers(1, 75),
    repeats=st.integers(1, 4),
    comma_at=st.integers(0, 160),
    backtrack=st.integers(0, 74),
)
def test_what_stands_for_a_name_is_in_one_chunk(
    before: int, count: int, repeats: int, comma_at: int, backtrack: int
) -> None:
    words = inversions([(tokens_of("ink"), count)])
    text = ["a"] * before + ["ink"] * repeats + ["a"] * 3
    text.insert(min(comma_at, len(text)), ",")
    tokens = tokenize(f"({' '.join(text)}:1.2)", load_tokenizer(), comma_backtrack=backtrack, words=words)
    ids = list(range(FIRST_VECTOR, FIRST_VECTOR + count))
    inside = [row[1:-1].tolist() for row in tokens.ids]
    starts = [
        (row, place) for row, line in enumerate(inside) for place, each in enumerate(line) if each == FIRST_VECTOR
    ]
    assert len(starts) == repeats
    for row, place in starts:
        assert inside[row][place : place + count] == ids
        assert (tokens.weights[row, 1 + place : 1 + place + count] == tokens.weights[row, 1 + place]).all()
        assert abs(tokens.weights[row, 1 + place] - 1.2) < 1e-6
    assert sum(each >= FIRST_VECTOR for line in inside for each in line) == repeats * count
    rest = [each for line in inside for each in line if each < FIRST_VECTOR and each != 49407]
    assert rest == [token for word in text if word != "ink" for token in tokens_of(word)], (
        "nothing else moves or is lost"
    )


@given(st.lists(st.integers(0, 49405), max_size=50))
def test_without_names_every_token_is_a_unit(ids: list[int]) -> None:
    assert list(NONE.units(ids)) == [(each,) for each in ids]
