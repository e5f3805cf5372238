"""The tokenizer against OpenAI's algorithm, written out slowly here."""

from __future__ import annotations

import functools
import gzip
import html
import importlib.util
import itertools
import unicodedata
from pathlib import Path

import ftfy
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import hayate.prompt.tokenizer as tokenizer_file
from hayate.errors import BrokenFile, MissingDependency
from hayate.prompt.tokenizer import Tokenizer, clean, is_plain, load_tokenizer, read_merges, vocabulary_path

CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
# Letters assigned long ago: the categories of newer ones depend on whose Unicode tables one asks.
OLD = unicodedata.ucd_3_2_0
CHARACTERS = st.characters(exclude_categories=["Cs", "Cn"]).filter(
    lambda letter: OLD.category(letter) == unicodedata.category(letter)
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer()


@functools.cache
def reference_tables() -> tuple[dict[int, str], dict[str, int], dict[tuple[str, str], int]]:
    """Bytes to letters, pieces to ids and pairs to ranks, as the CLIP paper's code defines them."""
    letters = {byte: chr(byte) for byte in [*range(33, 127), *range(161, 173), *range(174, 256)]}
    pieces = list(letters.values())
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(256 + len(pieces) - 188)
            pieces.append(letters[byte])
    pieces += [piece + "</w>" for piece in pieces]
    spec = importlib.util.find_spec("open_clip")
    assert spec
    assert spec.origin
    lines = (
        gzip.decompress((Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode().split("\n")
    )
    ranks: dict[tuple[str, str], int] = {}
    for line in lines[1 : 49152 - 256 - 2 + 1]:
        first, second = line.split()
        ranks[first, second] = len(ranks)
        pieces.append(first + second)
    return letters, {piece: rank for rank, piece in enumerate(pieces)}, ranks


def reference_words(text: str) -> list[str]:
    """`text` in contractions, runs of letters, single numbers and runs of anything else that is not space."""

    def kind(letter: str) -> str:
        return " " if letter.isspace() else {"L": "L", "N": "N"}.get(unicodedata.category(letter)[0], "other")

    words: list[str] = []
    position = 0
    while position < len(text):
        folded = text[position : position + 3].replace("ſ", "s")
        word = next((text[position : position + len(c)] for c in CONTRACTIONS if folded.startswith(c)), "")
        if not word:
            end = position + 1
            while kind(text[position]) != "N" and end < len(text) and kind(text[end]) == kind(text[position]):
                end += 1
            word = text[position:end]
        if not word.isspace():
            words.append(word)
        position += len(word)
    return words


def reference_encode(text: str) -> list[int]:
    letters, ids, ranks = reference_tables()
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    text = " ".join(text.split()).lower()
    found: list[int] = []
    for word in reference_words(text):
        parts = [letters[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while True:
            pairs = [(ranks[pair], pair) for pair in itertools.pairwise(parts) if pair in ranks]
            if not pairs:
                break
            first, second = min(pairs)[1]
            merged: list[str] = []
            for part in parts:
                # A part that has just been merged can't take part again: the merged pair is longer than its halves.
                if merged and merged[-1] == first and part == second:
                    merged[-1] = first + second
                else:
                    merged.append(part)
            parts = merged
        found += [ids[part] for part in parts]
    return found


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a photo of an astronaut riding a horse", [320, 1125, 539, 550, 18376, 6765, 320, 4558]),
        ("A  photo\nof a CAT", [320, 1125, 539, 320, 2368]),
        ("", []),
        (" \t\n", []),
        (",", [Tokenizer.comma_id]),
    ],
)
def test_published_ids(tokenizer: Tokenizer, text: str, ids: list[int]) -> None:
    assert tokenizer.encode(text) == ids


@pytest.mark.parametrize(
    "text",
    [
        "it's they'll WE'VE i'd you're 'tis don't 'ſ",
        "masterpiece, best quality, 1girl, 4k, (8k:1.2), cyberpunk-style :3 ^_^ ;)",
        "supercalifragilisticexpialidocious antidisestablishmentarianism",
        "東京タワー、夜景 🎆👩‍👩‍👧 ¿qué? ÆØÅ ΣΊΣΥΦΟΣ İstanbul ß ﬁne",
        "&amp;lt;b&amp;gt; &lt;br&gt; &quot;x&quot; schÃ¶n â€œquoteâ€\x9d",
        "a\x00b\x0bc\x1bd\x85e\u2028f\u200bg\ufeffh",
        "salt &amp; pepper",
        "<b> salt &amp;amp; pepper",
        "</w> a</w> Ġ ! !! !!! ........",
    ],
)
def test_odd_texts_equal_the_reference(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encode(text) == reference_encode(text)


@given(st.text(CHARACTERS, max_size=30) | st.text(st.characters(max_codepoint=126), max_size=60))
def test_any_text_equals_the_reference(text: str) -> None:
    # Repair and entities can bring in letters that CHARACTERS leaves out.
    assume(all(OLD.category(letter) == unicodedata.category(letter) for letter in clean(text)))
    assert load_tokenizer().encode(text) == reference_encode(text)


@given(st.text(st.characters(max_codepoint=126), max_size=40))
def test_plain_text_needs_no_repair(text: str) -> None:
    assume(is_plain(text))
    assert html.unescape(html.unescape(ftfy.fix_text(text))) == text


@pytest.mark.parametrize("marker", ["<|endoftext|>", "<|startoftext|>", "<end_of_text>", "<start_of_text>"])
def test_markers_in_a_text_are_text(tokenizer: Tokenizer, marker: str) -> None:
    ids = tokenizer.encode(f"a {marker} b")
    assert len(ids) > 5
    assert max(ids) < tokenizer.bos_id


@given(st.text(st.characters(categories=["Cs", "Ll"]), max_size=20))
def test_lone_surrogates_do_no_harm(text: str) -> None:
    assert all(0 <= token < Tokenizer.bos_id for token in load_tokenizer().encode(text))


def test_a_surrogate_pair_is_one_letter(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("\ud83c\udf86") == tokenizer.encode("🎆")
    assert tokenizer.encode("a \ud83d") == tokenizer.encode("a \ufffd")


def test_a_missing_vocabulary_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_file.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match="pip install --no-deps open_clip_torch"):
        vocabulary_path()


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "short", "one word"])
def test_a_damaged_vocabulary_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    whole = vocabulary_path().read_bytes()
    content = {
        "empty": b"",
        "text": b"<html>not found</html>",
        "cut": whole[:100_000],
        "short": gzip.compress(b"#version: 0.2\ni n\nt h\n"),
        "one word": gzip.compress(b"#version: 0.2\n" + b"word\n" * 60_000),
    }[damage]
    path = tmp_path / "vocabulary.gz"
    path.write_bytes(content)
    with pytest.raises(BrokenFile, match=r"vocabulary\.gz"):
        read_merges(path)
