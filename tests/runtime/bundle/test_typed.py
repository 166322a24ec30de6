"""Dataclasses from JSON: documents as they were written, options as someone chose them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecap.runtime.bundle.typed import read, read_options, value_of


@dataclass(frozen=True)
class Inner:
    size: int = 1
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    shape: tuple[int | str, ...]
    pair: tuple[str, int]
    parts: Mapping[str, Inner]
    inner: Inner = field(default_factory=lambda: Inner(size=7))
    flag: bool = True
    note: str | None = None
    words: tuple[str, ...] = ()
    rest: Mapping[str, Any] = field(default_factory=dict)


SOUND: dict[str, Any] = {
    "name": "a",
    "shape": ["N", 3],
    "pair": ["b", 2],
    "parts": {"x": {"size": 2, "rate": 1}},
    "inner": {"size": 3, "rate": 0.25},
    "flag": False,
    "rest": {"any": [None, {"thing": 1}]},
}
MADE = Outer("a", ("N", 3), ("b", 2), {"x": Inner(2, 1.0)}, Inner(3, 0.25), False, rest={"any": [None, {"thing": 1}]})


def test_a_document_is_read_by_the_types_of_the_fields() -> None:
    assert read(Outer, SOUND, "it") == MADE
    assert read(Outer, {**SOUND, "later": 1, "note": None, "words": ["x"]}, "it").words == ("x",)
    assert type(read(Outer, SOUND, "it").parts["x"].rate) is float  # JSON writes 1.0 as 1 as it likes
    assert read(Outer, asdict(MADE), "it") == MADE


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": 3}, "it.name must be a string, not 3"),
        ({"flag": 1}, "it.flag must be true or false, not 1"),
        ({"shape": 3}, "it.shape must be a list, not int"),
        ({"shape": [1.5]}, r"it.shape\[0\] must be a whole number or a string, not 1.5"),
        ({"shape": [True]}, r"it.shape\[0\] must be a whole number or a string, not True"),
        ({"pair": ["b"]}, "it.pair must be a list of 2, not of 1"),
        ({"parts": []}, "it.parts must be a JSON object, not list"),
        ({"parts": {"x": {"size": 1}}}, "it.parts.x lacks 'rate'"),
        ({"parts": {"x": {"size": True, "rate": 1}}}, "it.parts.x.size must be a whole number, not True"),
        ({"inner": {"size": 10**30, "rate": 1}}, "it.inner.size must have fewer digits"),
        ({"inner": {"size": 1, "rate": 10**5000}}, "it.inner.rate must have fewer digits"),
        ({"note": 3}, "it.note must be a string, not 3"),
        ({"words": ["a", None]}, r"it.words\[1\] must be a string, not None"),
        ({"words": None}, "it.words must be a list, not NoneType"),
        ({"rest": 1}, "it.rest must be a JSON object, not int"),
    ],
)
def test_what_is_wrong_in_a_document_is_named(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}$"):
        read(Outer, {**SOUND, **changes}, "it")


@pytest.mark.parametrize("name", ["name", "shape", "pair", "parts", "inner", "flag", "rest"])
def test_a_document_lacks_nothing_even_if_it_has_a_default(name: str) -> None:
    with pytest.raises(ValueError, match=f"^it lacks '{name}'$"):
        read(Outer, {key: value for key, value in SOUND.items() if key != name}, "it")


@dataclass(frozen=True)
class Options:
    needed: int
    table: Inner = field(default_factory=lambda: Inner(size=7))


def test_options_change_what_is_the_default_there() -> None:
    assert read_options(Options, {"needed": 1, "table": {"rate": 2}}) == Options(1, Inner(7, 2.0))
    before = Options(3, Inner(9, 9.0))
    assert read_options(Options, {"table": {"size": 4}}, defaults=before) == Options(3, Inner(4, 9.0))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "lacks 'needed'"),
        ({"needed": 1, "nedeed": 2}, r"unknown option 'nedeed' \(did you mean needed\? known: needed, table\)"),
        ({"needed": 1, "table": {"depth": 2}}, r"unknown option 'table.depth' \(known: size, rate\)"),
        ({"needed": 1, "table": 3}, "table must be a table"),
        ({"needed": 1, "table": {"size": "3"}}, "table.size must be a whole number, not '3'"),
    ],
)
def test_what_is_wrong_in_options_is_named(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}$"):
        read_options(Options, options)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(list(SOUND)), JSON)
def test_nothing_but_a_value_error_comes_of_any_json(name: str, value: Any) -> None:
    try:
        made = read(Outer, {**SOUND, name: value}, "it")
    except ValueError as error:
        assert str(error).startswith("it") and len(str(error)) < 300
    else:
        assert isinstance(made, Outer)


def test_a_value_needs_no_dataclass() -> None:
    assert value_of(Mapping[str, tuple[tuple[str, ...], ...]], {"a": [["b", "c"], []]}, "it") == {"a": (("b", "c"), ())}
