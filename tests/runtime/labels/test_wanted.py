"""Labels to choose among: which of them a vector gets, and what is said of words that are none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tiny_labels import SPACE, label_table

from edgecap.errors import EngineError, OptionError
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.labels.table import LabelTable
from edgecap.runtime.labels.unknown import nearest
from edgecap.runtime.labels.vectors import unit_vectors
from edgecap.runtime.labels.wanted import Wanted, chosen, whole

TABLE = label_table()
RED = unit_vectors(np.array([[1, -1, -1]], np.float32), "a test")[0]
VECTORS = arrays.arrays(np.float32, 3, elements=st.floats(-4, 4, width=32)).filter(
    lambda v: float(np.abs(v).max()) > 0.1
)


@dataclass
class Text:
    """A text side that knows the colour of some words."""

    space: str = SPACE

    def embed(self, words: Sequence[str]) -> FloatArray:
        colours = {"crimson": (1, -1, -1), "navy": (-1, -1, 0.2)}
        return np.array([colours[word] for word in words], np.float32)


def test_the_likeliest_labels_come_first() -> None:
    labels = whole(TABLE).of(RED, 3, 0.0)
    assert [label.name for label in labels][:2] == ["red", "a stop sign at sunset"] and len(labels) == 3
    assert labels[0].similarity == pytest.approx(1, abs=1e-6)
    assert labels[0].confidence == pytest.approx(1 / (1 + np.exp(-(10 - 8))), abs=1e-6)


@given(VECTORS, st.integers(1, 8), st.none() | st.floats(0, 1))
def test_what_is_given_is_the_best_of_what_is_likely_enough(
    vector: FloatArray, top: int, threshold: float | None
) -> None:
    photo = unit_vectors(vector[np.newaxis], "a test")[0]
    wanted = whole(TABLE)
    similarities = (photo.astype(float) @ TABLE.columns.astype(float)).clip(-1, 1)
    expected = 1 / (1 + np.exp(-(10 * similarities - 8)))
    found = wanted.of(photo, top, threshold)
    least = 0.5 if threshold is None else threshold
    assert len(found) <= top and all(label.confidence >= least - 1e-6 for label in found)
    for label in found:
        row = wanted.names.index(label.name)
        assert label.confidence == pytest.approx(expected[row], abs=1e-5)
        assert label.similarity == pytest.approx(similarities[row], abs=1e-5)
    assert [one.confidence for one in found] == sorted((one.confidence for one in found), reverse=True)
    left = [p for p, name in zip(expected, wanted.names, strict=True) if name not in {one.name for one in found}]
    if len(found) == top:
        assert max(left, default=0) <= found[-1].confidence + 1e-5
    else:
        assert max(left, default=0) < least + 1e-5


def test_each_label_has_its_own_threshold() -> None:
    low = np.array([0.95, 0.9, 0.9, 0.9, 0.9, 0.1], np.float32)
    table = label_table(thresholds=low)
    assert [label.name for label in whole(table).of(RED, 9, None)] == ["a stop sign at sunset"]
    assert [label.name for label in whole(table).of(RED, 9, 0.5)] == ["red", "a stop sign at sunset"]


def test_certain_labels_are_ranked_all_the_same() -> None:
    steep = label_table(slopes=np.full(6, 1e5, np.float32), intercepts=np.zeros(6, np.float32))
    first, second, *_ = whole(steep).of(RED, 6, 0.0)
    assert (first.name, second.name) == ("red", "a stop sign at sunset") and first.confidence == second.confidence == 1


def test_labels_are_called_as_they_were_asked_for() -> None:
    wanted = chosen(TABLE, ["Gr\u00dcN", "\u043a\u0440\u0430\u0441\u043d\u044b\u0439", "ROT", " rot "], None)
    assert wanted.names == ("Gr\u00dcN", "\u043a\u0440\u0430\u0441\u043d\u044b\u0439", "ROT") and wanted.doubles == (
        "ROT",
    )
    found = wanted.of(RED, 5, 0.5)
    assert [label.name for label in found] == ["\u043a\u0440\u0430\u0441\u043d\u044b\u0439", "ROT"]  # one vector
    assert found[0].similarity == found[1].similarity


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "labels: none is named"),
        ("red", "labels must be a list of words, not 'red'"),
        (3, "labels must be a list of words, not 3"),
        ([None], "labels must be words, not None"),
        (["red", " "], "labels: a label is empty"),
        (["r" * 10_000], "labels: a label has at most 200 characters, not 10,000"),
        (
            ["gren"],
            r"not in the table of labels: 'gren' \(near: 'green', 'gr\u00fcn'\). Ask for names that it has, or ",
        ),
        (["red", "zebra crossing"], r"'zebra crossing' \(nothing is near\)"),
        ([f"nothing {n}" for n in range(99)], r"'nothing 2' \(nothing is near\); and 96 more\. "),
        ([f"nothing {n}" for n in range(100_001)], "labels: at most 100,000 labels can be asked for"),
    ],
)
def test_what_can_be_no_list_of_labels_is_a_line(words: list[str], problem: str) -> None:
    with pytest.raises(OptionError, match=problem) as caught:
        chosen(TABLE, words, None)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_text_side_embeds_words_that_the_table_lacks() -> None:
    wanted = chosen(TABLE, ["navy", "red", "crimson"], Text())
    assert wanted.names == ("red", "navy", "crimson")
    assert {label.name for label in wanted.of(RED, 5, None)} == {"red", "crimson"}
    np.testing.assert_array_equal(wanted.slopes, [10, 10, 10])  # of the new ones the median
    assert chosen(TABLE, ["red"], Text()).names == ("red",)


def test_vectors_without_a_direction_are_errors() -> None:
    for vector, problem in (([0.0, 0, 0], "is zero"), ([1, np.nan, 0], "not finite"), ([1, np.inf, 0], "not finite")):
        with pytest.raises(EngineError, match=f"the graph made a vector that .*{problem}"):
            unit_vectors(np.array([vector], np.float32), "the graph")
    np.testing.assert_allclose(unit_vectors(np.array([[3e38, 0, 3e38]], np.float32), "x"), [[0.5**0.5, 0, 0.5**0.5]])


def test_the_nearest_names_are_those_written_alike() -> None:
    assert nearest(TABLE, "a stop sign")[0] == "a stop sign at sunset"
    assert nearest(TABLE, "BLAUE") == ["blue", "blau"]
    assert nearest(TABLE, "\u72ac") == []


def test_a_large_table_is_as_right_and_quick() -> None:
    """Ten thousand labels: the product is one pass over 20 MB, which is held against a time that no board needs."""
    n, width, random = 10_000, 512, np.random.default_rng(0)
    column = np.ones(n, np.float32)
    vectors = random.integers(1, 128, (n, width), np.int8) * random.choice(np.array([-1, 1], np.int8), (n, width))
    names = tuple((f"label {number}",) for number in range(n))
    wanted: Wanted = whole(LabelTable("s", names, vectors, column, 100 * column, 0 * column, 0.5 * column))
    photo = wanted.columns[:, 4321]
    assert wanted.of(photo, 5, None)[0].name == "label 4321"
    start = time.perf_counter()
    for _ in range(10):
        wanted.of(photo, 5, None)
    assert time.perf_counter() - start < 1
