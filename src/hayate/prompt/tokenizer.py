"""CLIP's byte-level BPE over the vocabulary that ships inside the open_clip package.

open_clip is found, never imported: importing it would load torch.
"""

from __future__ import annotations

import functools
import gzip
import html
import importlib.util
import itertools
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from hayate.errors import BrokenFile, MissingDependency

if TYPE_CHECKING:
    import tokenizers

VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
MERGE_COUNT = 48_894
"""CLIP uses this many of the file's 262,144 merges: 49,152 entries less 256 bytes and the two markers."""
WORD_END = "</w>"
SPLIT_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenizer:
    """Text to CLIP's token ids; the start and end markers are for whoever builds the chunks."""

    bos_id: ClassVar[int] = 49406
    eos_id: ClassVar[int] = 49407
    comma_id: ClassVar[int] = 267

    bpe: tokenizers.Tokenizer

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without markers; no text that a user can write yields a marker's id."""
        return self.bpe.encode(clean(text), add_special_tokens=False).ids


@functools.cache
def load_tokenizer() -> Tokenizer:
    """The tokenizer, built on the first call and kept.

    Raises: MissingDependency without the open_clip package, BrokenFile if its vocabulary is damaged.
    Cost: about 90 ms, of which a third is the Rust library taking over the table.
    """
    # Imported here: reading or showing a prompt must not wait for the library.
    from tokenizers import Regex, models, pre_tokenizers
    from tokenizers import Tokenizer as RustTokenizer

    merges = read_merges(vocabulary_path())
    bpe = RustTokenizer(models.BPE(vocab=vocabulary(merges), merges=merges, end_of_word_suffix=WORD_END))
    words = pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="removed", invert=True)
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([words, letters])  # pyright: ignore[reportAttributeAccessIssue]
    return Tokenizer(bpe=bpe)


def clean(text: str) -> str:
    """`text` as OpenAI's tokenizer sees it: repaired, entities resolved twice, single spaces, lower case."""
    if not is_plain(text):
        import ftfy  # imported here: most prompts are plain and need not wait for it

        text = html.unescape(html.unescape(ftfy.fix_text(without_surrogates(text))))
    return " ".join(text.split()).lower()


def is_plain(text: str) -> bool:
    """Whether neither repair nor entity resolution can change `text`."""
    return text.isascii() and text.isprintable() and "&" not in text


def without_surrogates(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates, which have no bytes, replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def vocabulary_path() -> Path:
    """Where the installed open_clip package keeps the vocabulary."""
    spec = importlib.util.find_spec("open_clip")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        path = Path(folder) / VOCABULARY_FILE
        if path.is_file():
            return path
    raise MissingDependency("CLIP's vocabulary is not installed", hint="pip install --no-deps open_clip_torch")


def read_merges(path: Path) -> list[tuple[str, str]]:
    """The merges that CLIP uses, most frequent first."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            pairs = [line.split() for line in itertools.islice(lines, 1, MERGE_COUNT + 1)]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise broken_vocabulary(path, str(error)) from error
    merges = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]
    if len(merges) != MERGE_COUNT:
        raise broken_vocabulary(path, f"{len(merges)} of {MERGE_COUNT} merges are readable")
    return merges


def broken_vocabulary(path: Path, reason: str) -> BrokenFile:
    """The error for a vocabulary file that can't be used."""
    return BrokenFile(f"{path}: {reason}", hint="pip install --force-reinstall --no-deps open_clip_torch")


def vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    """Ids in CLIP's order: the 256 bytes, the same ending a word, then the merges.

    The two markers are left out on purpose, so that no text can produce them.
    """
    letters = byte_letters()
    entries = [*letters, *(letter + WORD_END for letter in letters), *map("".join, merges)]
    return dict(zip(entries, range(len(entries)), strict=True))


def byte_letters() -> list[str]:
    """A printable letter for each of the 256 bytes: printable bytes as themselves, then U+0100 and up for the rest."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + rank) for rank in range(256 - len(printable))]
