"""Tables of labels: written, read, and refused where they contradict themselves."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tiny_labels import LABELS, SPACE, label_table

from edgecap.runtime.bundle.json_document import MAX_VALUES, parse_json
from edgecap.runtime.labels.names import key_of
from edgecap.runtime.labels.packed import pack, unpack
from edgecap.runtime.labels.table import MAX_LABELS, LabelTable

NAMES = st.text("abc \u00e9\u72ac\u043a,\"'", min_size=1, max_size=12).filter(lambda name: bool(key_of(name)))


@st.composite
def tables(draw: st.DrawFn) -> LabelTable:
    """Tables of some labels with some names each, in both precisions."""
    flat = draw(st.lists(NAMES, min_size=1, max_size=12, unique_by=key_of))
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(flat) - 1)), max_size=4)))
    names = [tuple(flat[a:b]) for a, b in zip([0, *cuts], [*cuts, len(flat)], strict=True) if a < b]
    n, width, half = len(names), draw(st.integers(1, 9)), draw(st.booleans())
    kind: Any = np.float16 if half else np.int8
    whole = st.integers(-127, 127).map(lambda number: number or 1)
    vectors = draw(arrays.arrays(kind, (n, width), elements=whole))

    def column(least: float, most: float) -> Any:
        return draw(arrays.arrays(np.float32, n, elements=st.floats(least, most, width=32)))

    scales = None if half else column(0.0009765625, 8)
    return LabelTable("a space", tuple(names), vectors, scales, column(0.25, 100), column(-50, 50), column(0, 1))


@given(tables())
def test_a_table_is_what_was_written(table: LabelTable) -> None:
    read = LabelTable.from_json(parse_json(json.dumps(table.to_json()).encode()))
    assert (read.space, read.names, read.precision) == (table.space, table.names, table.precision)
    for name in ("vectors", "scales", "slopes", "intercepts", "thresholds"):
        one, other = getattr(read, name), getattr(table, name)
        assert (one is None and other is None) or (one.dtype == other.dtype and np.array_equal(one, other)), name
    assert read.rows == {key_of(name): row for row, names in enumerate(table.names) for name in names}


@given(tables())
def test_unit_vectors_point_where_the_vectors_do(table: LabelTable) -> None:
    columns, vectors = table.columns.astype(float), table.vectors.astype(float).T
    assert table.columns.dtype == np.float32 and columns.shape == vectors.shape
    np.testing.assert_allclose(np.linalg.norm(columns, axis=0), 1, atol=1e-6)
    lengths = np.linalg.norm(vectors, axis=0)
    np.testing.assert_allclose(columns * lengths, vectors, atol=1e-4 * float(lengths.max()))


@given(arrays.arrays(st.sampled_from([np.int8, np.float16, np.float32]), arrays.array_shapes(max_dims=2)))
def test_arrays_survive_their_text(array: Any) -> None:
    assert unpack(pack(array), array.dtype.name, array.shape, "x").tobytes() == array.tobytes()


def text_of(values: list[float], dtype: str) -> str:
    return base64.b64encode(np.array(values, dtype).tobytes()).decode()


NAN = float("nan")
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no space": ({"space": " "}, "labels.space must be a name, not ' '"),
    "a space of two lines": ({"space": "a\nb"}, "labels.space must be a name"),
    "no labels": ({"names": []}, "a table has 1 to 100,000 labels, not 0"),
    "a label without names": ({"names": [["red"], *[[]] * 5]}, "lists of names, none of them empty"),
    "names that are none": ({"names": [["red"], [1], ["a"], ["b"], ["c"], ["d"]]}, r"lists of strings, not \[1\]"),
    "a name that is no list": ({"names": ["red"] * 6}, "must be a list of lists of names"),
    "an empty name": ({"names": [["red"], [" "], ["a"], ["b"], ["c"], ["d"]]}, "a label is empty"),
    "a long name": (
        {"names": [["r" * 10_000], ["e"], ["a"], ["b"], ["c"], ["d"]]},
        "at most 200 characters, not 10,000",
    ),
    "doubles": ({"names": [["red"], ["a"], ["RED "], ["b"], ["c"], ["d"]]}, "the label 'RED ' stands twice"),
    "doubles of one label": ({"names": [["red", "Red"], ["a"], ["e"], ["b"], ["c"], ["d"]]}, "'Red' stands twice"),
    "another width": ({"width": 4}, "labels.vectors has 24 characters, 6 x 4 of int8 take 32"),
    "no width": ({"width": 0}, "labels.width must be between 1 and 4,096, not 0"),
    "a huge width": ({"width": 10**9}, "labels.width must be between 1 and 4,096"),
    "another precision": ({"precision": "int4"}, "labels.precision must be int8 or fp16, not 'int4'"),
    "no base64": ({"vectors": "!" * 24}, "labels.vectors is no base64"),
    "vectors that are cut": ({"vectors": "AAAA"}, "labels.vectors has 4 characters, 6 x 3 of int8 take 24"),
    "a vector of zeros": ({"vectors": "A" * 24}, "the vector of 'red' is zero"),
    "halves with NaN": (
        {"precision": "fp16", "vectors": text_of([1.0] * 17 + [NAN], "<f2")},
        "the vector of 'a stop sign at sunset' is not finite",
    ),
    "scales with NaN": ({"scales": text_of([NAN] + [1.0] * 5, "<f4")}, "labels.scales must be between .* not nan"),
    "scales of nothing": ({"scales": text_of([0.0] * 6, "<f4")}, "labels.scales must be between"),
    "too few scales": ({"scales": text_of([1.0] * 5, "<f4")}, "labels.scales has 28 characters, 6 of float32 take 32"),
    "too few slopes": ({"slopes": [1.0]}, "labels.slopes must be 6 numbers, one a label, not 1"),
    "slopes that fall": ({"slopes": [-1] * 6}, "labels.slopes must be between"),
    "slopes that are words": ({"slopes": ["1"] * 6}, "labels.slopes must be numbers"),
    "slopes that are none": ({"slopes": [True] * 6}, "labels.slopes must be numbers"),
    "a huge intercept": ({"intercepts": [1e300] * 6}, "labels.intercepts must be between"),
    "a threshold beyond 1": ({"thresholds": [0.5] * 5 + [1.5]}, "labels.thresholds must be between 0 and 1, not 1.5"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_table_that_contradicts_itself_is_refused(case: str) -> None:
    changes, problem = WRONG[case]
    with pytest.raises(ValueError, match=problem) as caught:
        LabelTable.from_json({**label_table().to_json(), **changes})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@given(st.data())
def test_what_is_changed_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    document = copy.deepcopy(label_table(data.draw(st.sampled_from(["int8", "fp16"]))).to_json())
    key = data.draw(st.sampled_from(list(document)))
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30)
    document[key] = data.draw(st.recursive(scalars, lambda inner: st.lists(inner, max_size=7)))
    try:
        table = LabelTable.from_json(document)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(table.columns).all()


def test_a_maker_is_held_to_the_same() -> None:
    for changes, problem in (
        ({"vectors": label_table("fp16").vectors}, "labels.vectors must be int8 with scales, or fp16 without"),
        ({"names": (("red",), (), *list(LABELS)[2:])}, "a label has no name"),
        ({"slopes": np.ones(5, np.float32)}, "a table of 6 labels must have 6 of everything"),
        ({"thresholds": np.full(6, np.nan, np.float32)}, "labels.thresholds must be between 0 and 1, not nan"),
    ):
        with pytest.raises(ValueError, match=problem):
            label_table(**changes)  # type: ignore[arg-type]
    assert (label_table().width, len(label_table()), label_table().space) == (3, len(LABELS), SPACE)


def test_100_000_labels_are_read_and_no_more() -> None:
    def document(count: int) -> dict[str, Any]:
        numbers = {name: [1] * count for name in ("slopes", "intercepts", "thresholds")}
        names = [[f"label {number}"] for number in range(count)]
        vectors = base64.b64encode(b"\1" * count).decode()
        scales = pack(np.ones(count, np.float32))
        return {
            "space": "s",
            "width": 1,
            "precision": "int8",
            "names": names,
            "vectors": vectors,
            "scales": scales,
        } | numbers

    assert len(LabelTable.from_json(document(MAX_LABELS))) == MAX_LABELS
    with pytest.raises(ValueError, match="a table has 1 to 100,000 labels, not 100,001"):
        LabelTable.from_json(document(MAX_LABELS + 1))


def test_a_document_of_millions_of_values_is_not_parsed() -> None:
    with pytest.raises(ValueError, match="more than 4,194,304 values"):
        parse_json(b"[" + b"0," * (MAX_VALUES + 1) + b"0]")
