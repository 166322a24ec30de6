"""How various captions are, which were learnt by heart, and which are right."""

from __future__ import annotations

import pytest

from edgecap.errors import MetricError
from edgecap.metrics import quality
from edgecap.metrics.diversity import Diversity, diversity
from edgecap.metrics.rightness import is_right

CAPTIONS = {"1": ["a", "dog", "runs"], "2": ("a", "dog", "runs"), "3": ["a", "dog"], "4": []}


def test_distinct_captions_and_words_are_counted() -> None:
    assert diversity(CAPTIONS) == Diversity(captions=4, distinct_captions=3, distinct_words=3, verbatim=None)


def test_a_caption_was_seen_when_all_its_tokens_were() -> None:
    trained_on = [["a", "dog", "runs"], ["a", "dog", "runs"], ["a", "cat"], ["a", "dog", "runs", "fast"]]
    assert diversity(CAPTIONS, trained_on).verbatim == 2
    assert diversity(CAPTIONS, []).verbatim == 0
    assert diversity({"1": ["a dog"]}, [["a", "dog"]]).verbatim == 0  # tokens, not letters


def test_what_cannot_be_counted_is_an_error() -> None:
    with pytest.raises(MetricError, match="the set of photos is empty"):
        diversity({})
    with pytest.raises(MetricError, match="is one string"):
        diversity({"1": "a dog"})


def test_figures_are_named_as_reports_print_them() -> None:
    references = {photo: [["a", "cat"]] * 5 for photo in CAPTIONS}
    found = quality(CAPTIONS, references, [["a", "dog"]])
    assert found.to_json() == {
        "distinct captions": {"count": 3, "of": 4, "share": 0.75},
        "distinct words": 3,
        "seen in training": {"count": 1, "of": 4, "share": 0.25},
        "wrong persons": {"count": 0, "of": 0, "share": 0.0},
        "wrong animals": {"count": 3, "of": 3, "share": 1.0},
        "wrong colours": {"count": 0, "of": 0, "share": 0.0},
    }
    assert "seen in training" not in quality(CAPTIONS, references).figures


@pytest.mark.parametrize(
    ("caption", "right"),
    [
        ("a man rides a red bike on a street", True),
        ("a man rides a red horse on a street", False),  # nobody saw an animal
        ("a woman rides a red bike on a street", False),
        ("a man sits in a red tree", False),  # two of four words
        ("a man sits and smiles on a red bike", True),  # three of five
        ("a man sits and smiles on a bike", False),  # two of four
        ("a on the", False),
        ("", False),
    ],
)
def test_a_right_caption_names_nothing_wrong_and_mostly_what_references_name(caption: str, right: bool) -> None:
    references = ["a man rides a bike", "the man on a red bike", "a man bikes along the street"]
    assert is_right(caption.split(), [reference.split() for reference in references]) is right
