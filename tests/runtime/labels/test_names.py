"""Names of labels: which are one, and which are none."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecap.runtime.labels.names import MAX_NAME, check_name, key_of

SAME = [
    ("dog", " DOG "),
    ("a  child on\ta bicycle", "A child on a bicycle"),
    ("gr\u00fcn", "GRU\u0308N"),
    ("stra\u00dfe", "STRASSE"),
    ("\u30ab\u30e1\u30e9", "\uff76\uff92\uff97"),  # half width
    ("\u0421\u041e\u0411\u0410\u041a\u0410", "\u0441\u043e\u0431\u0430\u043a\u0430"),
    ("\u03c3\u03ba\u03cd\u03bb\u03bf\u03c2", "\u03a3\u039a\u038e\u039b\u039f\u03a3"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_ways_to_write_a_name_are_one(one: str, other: str) -> None:
    assert key_of(one) == key_of(other)


def test_other_names_are_others() -> None:
    names = ["dog", "dogs", "hot dog", "hotdog", "\u72ac", "\u732b", "caf\u00e9", "cafe"]
    assert len(set(map(key_of, names))) == len(names)


@given(st.text(max_size=40))
def test_a_key_does_not_depend_on_how_a_name_is_written(name: str) -> None:
    assert key_of(unicodedata.normalize("NFC", name)) == key_of(unicodedata.normalize("NFD", name)) == key_of(name)
    assert key_of(f"  {name}\n") == key_of(name)
    if name.isascii():
        assert key_of(name.upper()) == key_of(name)


@pytest.mark.parametrize(
    "name", ["dog", "a" * MAX_NAME, "\u72ac", "salt, pepper", "\U0001f469\u200d\U0001f680", "\u05db\u05dc\u05d1"]
)
def test_names_of_any_script_are_taken(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "a label is empty"),
        ("\u3000 \u00a0", "a label is empty"),
        ("a" * 10_000, "a label has at most 200 characters, not 10,000: aaaaaaaaaaaaaaaaaaaa..."),
        ("do\0g", "has a character that is no text"),
        ("do\ng", "has a character that is no text"),
        ("\udce4", "has a character that is no text"),
    ],
)
def test_what_is_no_name_is_refused(name: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        check_name(name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200
