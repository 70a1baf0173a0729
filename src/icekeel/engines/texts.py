"""What a text adds to a linear model: words, two and three of them in a row, and pieces of words, each with a weight.

The tokeniser is here alone, for training and for serving. A text is made comparable (Unicode NFKC, case folded, its
first 10,000 characters) and cut into words: runs of letters, digits and marks of any script. It counts as its words and
phrases of two and three of them, and as the pieces of three to five characters of its words, ends marked, which is what
makes something of misspelling, of inflection and of scripts that do not part words. Each is one of 2^18 cells by a hash, so
that no text of anybody's is stored. Words and pieces weigh `(1 + ln count) * idf`, each of the two scaled to length
1 (Manning, Raghavan and Schuetze 2008, "Introduction to Information Retrieval", section 6.4).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from icekeel.core.errors import BundleError, Fault
from icekeel.core.frames import Array, Floats, Ints
from icekeel.core.ids import digest

from .encoder import Value

LONGEST = 10_000
"""Characters of a text that are read."""
CELLS = 1 << 18
"""For words and phrases; as many follow for pieces."""
PIECES = (3, 4, 5)
LONGEST_PHRASE = 3

_Hashes = NDArray[np.uint64]
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u109f"
    "\u1780-\u17d3\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
)
"""Vowel signs and accents: Python's `\\w` would end a word of Hindi or Thai at them."""
_WORD = re.compile(rf"[\w{_MARKS}]+")
_BASE, _NEXT = 0x9E3779B97F4A7C15, np.uint64(0xD6E8FEB86659FD93)


class Tokens(NamedTuple):
    """A text as a model reads it.

    Attributes:
        words: In order.
        cells: Of every piece, word and phrase.
        owners: The word each belongs to, of a phrase its first.
        lengths: How many words each belongs to alike, from its owner on.
    """

    words: list[str]
    cells: Ints
    owners: Ints
    lengths: Ints


class Counted(NamedTuple):
    """Cells of a text, each once, ascending; how often; and the place of each token's cell among them."""

    cells: Ints
    counts: Ints
    places: Ints


def tokens(text: str) -> Tokens:
    """The tokens of a text; the same in training and in serving."""
    plain = unicodedata.normalize("NFKC", text[:LONGEST]).casefold()[:LONGEST]
    words = _WORD.findall(plain)
    joined = f" {' '.join(words)} ".encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(joined, dtype="<u4").astype(np.uint64)
    powers, inverses = _powers()
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum(codes * powers[: len(codes)], out=sums[1:])
    space = codes == 32
    before = np.zeros(len(codes) + 1, dtype=np.int64)  # spaces before each place
    np.cumsum(space, out=before[1:])
    at = np.flatnonzero(space)
    whole = (sums[at[1:]] - sums[at[:-1] + 1]) * inverses[at[:-1] + 1] if words else sums[:0]
    cells, owners = [], []
    for size in PIECES if words else ():
        starts = np.arange(len(codes) - size + 1)
        inner = starts[before[starts + size - 1] == before[starts + 1]]  # blanks at the ends alone
        found = (sums[inner + size] - sums[inner]) * inverses[inner]
        cells.append(_cells(found + np.uint64(size)) + CELLS)
        owners.append(before[inner + 1] - 1)
    lengths, phrases = [np.ones(sum(map(len, owners)), dtype=np.int64)], whole
    for length in range(1, LONGEST_PHRASE + 1):
        cells.append(_cells(phrases))
        owners.append(np.arange(len(phrases)))
        lengths.append(np.full(len(phrases), length))
        phrases = phrases[:-1] * _NEXT + whole[length:]
    return Tokens(words, *map(np.concatenate, (cells, owners, lengths)))


def counted(found: Tokens) -> Counted:
    """The cells of a text and how often each comes."""
    cells, places, counts = np.unique(found.cells, return_inverse=True, return_counts=True)
    return Counted(cells, counts, places)


def tf_idf(found: Counted, idf: Array) -> Floats:
    """What each cell of a text weighs, words and pieces each of length 1. `idf` has a number for each cell of both."""
    sizes = (1.0 + np.log(found.counts)) * idf[found.cells]
    first_piece = int(np.searchsorted(found.cells, CELLS))
    for part in (slice(first_piece), slice(first_piece, None)):
        sizes[part] /= math.sqrt(sizes[part] @ sizes[part]) or 1.0
    return sizes


def _cells(hashes: _Hashes) -> Ints:
    """Hashes spread over the cells (the finaliser of MurmurHash3)."""
    mixed = hashes ^ (hashes >> np.uint64(33))
    mixed = mixed * np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(33)
    mixed = mixed * np.uint64(0xC4CEB9FE1A85EC53)
    return (mixed >> np.uint64(46)).astype(np.int64)


@cache
def _powers() -> tuple[_Hashes, _Hashes]:
    """Powers of an odd base modulo 2^64, and their inverses: a hash of any stretch of a text from two sums."""
    length = LONGEST + 2  # and a blank at either end
    found = [np.ones(length, dtype=np.uint64) for _ in range(2)]
    for powers, base in zip(found, (_BASE, pow(_BASE, -1, 1 << 64)), strict=True):
        powers[1:] = np.uint64(base)
        np.cumprod(powers, out=powers)
    return found[0], found[1]


class Words(msgspec.Struct, frozen=True, tag="words", forbid_unknown_fields=True):
    """What a text adds; the weights lie in a file of their own.

    Attributes:
        file, sha256: Cells (uint32, ascending), their idf (float32) and weights (float64), little-endian.
        cells: How many.
        null: What a null adds.
    """

    file: str
    sha256: str
    cells: int
    null: float


def pack(cells: Array, idf: Array, weights: Array) -> bytes:
    """The file of these weights."""
    return cells.astype("<u4").tobytes() + idf.astype("<f4").tobytes() + weights.astype("<f8").tobytes()


class WordsTerm:
    """Adds up the weights of a text's words, phrases and pieces.

    Raises:
        BundleError: not the weights that were written.
    """

    def __init__(self, words: Words, data: bytes | None) -> None:
        if data is None:
            raise BundleError(Fault("missing_file", "the weights of a text are missing", words.file))
        n = words.cells
        if digest(data) != words.sha256 or len(data) != 16 * n:
            raise BundleError(Fault("changed_file", "not the weights that were written", words.file))
        cells = np.frombuffer(data, dtype="<u4", count=n)
        if n and int(cells.max()) >= 2 * CELLS:
            raise BundleError(Fault("bad_engine", "a cell that no token has", words.file))
        self.null = words.null
        self.idf, self.weights = np.zeros(2 * CELLS, dtype=np.float32), np.zeros(2 * CELLS)
        self.idf[cells] = np.frombuffer(data, dtype="<f4", count=n, offset=4 * n)
        self.weights[cells] = np.frombuffer(data, dtype="<f8", count=n, offset=8 * n)

    def one(self, value: Value) -> float:
        """What one text adds; 0.2 ms for 200 words."""
        if not isinstance(value, str):
            return self.null
        found = counted(tokens(value))
        return float(tf_idf(found, self.idf) @ self.weights[found.cells])

    def many(self, values: Array) -> Floats:
        """The same for all of them, shape `(n_rows,)`."""
        return np.array([self.one(value) for value in values], dtype=np.float64)

    def added(self, name: str, value: Value) -> Sequence[tuple[tuple[str, ...], float]]:
        """What each word adds, its pieces and its part of phrases included; in all what the text adds."""
        if not isinstance(value, str):
            return [((name,), self.null)]
        found = tokens(value)
        cells = counted(found)
        each = tf_idf(cells, self.idf) * self.weights[cells.cells] / cells.counts
        amounts = each[cells.places] / found.lengths
        sums = np.zeros(len(found.words))
        for shift in range(LONGEST_PHRASE):
            reached = found.lengths > shift
            np.add.at(sums, found.owners[reached] + shift, amounts[reached])
        by_word: dict[str, float] = {}
        for word, amount in zip(found.words, sums.tolist(), strict=True):
            by_word[word] = by_word.get(word, 0.0) + amount
        return [((f'{name}: "{word}"',), amount) for word, amount in by_word.items()]
