"""What a text is cut into, and what its words add."""

from __future__ import annotations

import numpy as np
import pytest

from icekeel.core.errors import BundleError
from icekeel.core.ids import digest
from icekeel.engines.texts import CELLS, LONGEST, PIECES, Words, WordsTerm, counted, pack, tf_idf, tokens


def naive(text: str) -> tuple[int, int]:
    """How many words and pieces a text has, written down without cleverness."""
    words = tokens(text).words
    pieces = sum(max(0, len(word) + 2 - size + 1) for word in words for size in PIECES)
    return len(words), pieces


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" .,! \n", []),
        ("The CAT's 3 mats", ["the", "cat", "s", "3", "mats"]),
        ("Straße ＡＢＣ ﬁn", ["strasse", "abc", "fin"]),
        ("ऋण के लिए आवेदन।", ["ऋण", "के", "लिए", "आवेदन"]),
        ("naïve nai\u0308ve", ["naïve", "naïve"]),
        ("融資の申し込み", ["融資の申し込み"]),
        ("ขอสินเชื่อ", ["ขอสินเชื\u0e48อ"]),
    ],
)
def test_words_of_any_script(text: str, words: list[str]) -> None:
    found = tokens(text)
    assert found.words == words
    n, pieces = naive(text)
    spans = [max(0, n - length + 1) for length in (1, 2, 3)]
    assert ((found.cells >= CELLS).sum(), (found.cells < CELLS).sum()) == (pieces, sum(spans))
    assert np.bincount(found.lengths[found.cells < CELLS], minlength=4)[1:].tolist() == spans
    assert all(found.owners >= 0) and all(found.owners + found.lengths <= n)


def test_a_word_has_one_cell_wherever_it_stands() -> None:
    first, second = tokens("late payment"), tokens("a very late payment")
    assert set(first.cells) <= set(second.cells)
    assert not set(tokens("early").cells) & set(first.cells)
    assert len(set(tokens("ab ba").cells[-3:])) == 3  # order matters to words and to phrases
    phrase = int(tokens("paid too late").cells[-1])
    assert (
        phrase in tokens("it was paid too late again").cells and phrase not in tokens("too late paid").cells
    )


def test_length_is_bounded() -> None:
    long = "word " * 10_000
    assert sum(map(len, tokens(long).words)) <= LONGEST
    assert len(tokens("\ufdfa" * LONGEST).words) > 0  # one character that becomes eighteen
    assert tokens(long).words == tokens(long + "more").words


def test_both_parts_have_length_one() -> None:
    found = counted(tokens("one two two"))
    sizes = tf_idf(found, np.ones(2 * CELLS))
    for part in (sizes[found.cells < CELLS], sizes[found.cells >= CELLS]):
        assert part @ part == pytest.approx(1.0)
    twice, once = (tokens(word).cells[-1] for word in ("two", "one"))
    ratio = sizes[found.cells == twice][0] / sizes[found.cells == once][0]
    assert ratio == pytest.approx(1 + np.log(2))


def term(weights: dict[str, float]) -> WordsTerm:
    cells = {int(cell): weight for word, weight in weights.items() for cell in tokens(word).cells}
    order = sorted(cells)
    data = pack(np.array(order), np.ones(len(order)), np.array([cells[cell] for cell in order]))
    return WordsTerm(Words("text.note.bin", digest(data), len(order), -0.25), data)


def test_words_add_what_they_weigh_and_a_null_its_own() -> None:
    one = term({"good": 1.0, "bad": -2.0})
    assert one.one("good") > 0 > one.one("bad")
    assert one.one("") == one.one("unknown") == 0.0
    assert one.one(None) == -0.25
    assert one.many(np.array(["good", None], dtype=object)).tolist() == [one.one("good"), -0.25]


def test_what_words_add_is_what_the_text_adds() -> None:
    one = term({"good day": 1.0, "bad": -2.0, "goodness": 0.5})
    for text in ("good bad day", "good good day", "goodness", "", "x y"):
        added = one.added("note", text)
        assert sum(amount for _, amount in added) == pytest.approx(one.one(text), abs=1e-12)
    by_name = {name: amount for (name,), amount in one.added("note", "Good and bad")}
    assert by_name['note: "good"'] > 0 > by_name['note: "bad"'] and len(by_name) == 3
    assert one.added("note", None) == [(("note",), -0.25)]


def test_weights_that_are_missing_or_changed_are_refused() -> None:
    data = pack(np.array([3]), np.array([1.0]), np.array([1.0]))
    for words, given in (
        (Words("w.bin", digest(data), 1, 0.0), None),
        (Words("w.bin", digest(data), 1, 0.0), data[:-1] + b"x"),
        (Words("w.bin", digest(data), 2, 0.0), data),
    ):
        with pytest.raises(BundleError):
            WordsTerm(words, given)
    beyond = pack(np.array([2 * CELLS]), np.array([1.0]), np.array([1.0]))
    with pytest.raises(BundleError, match="no token"):
        WordsTerm(Words("w.bin", digest(beyond), 1, 0.0), beyond)
