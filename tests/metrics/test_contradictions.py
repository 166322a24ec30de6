"""What a caption names and its references deny: persons, animals and colours, by hand-made cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecap.errors import MetricError
from edgecap.metrics import word_groups
from edgecap.metrics.contradictions import CATEGORIES, contradictions, names_nothing_wrong, wrong_words
from edgecap.metrics.share import Share

PERSONS, ANIMALS, COLOURS = CATEGORIES
SENTENCES = st.lists(
    st.sampled_from(
        [
            "a",
            "man",
            "woman",
            "boy",
            "child",
            "person",
            "dog",
            "horse",
            "animal",
            "red",
            "blue",
            "white",
            "shirt",
            "ball",
            "in",
            "and",
            "the",
        ]
    ),
    max_size=8,
)


def wrong(category: object, caption: str, *references: str) -> tuple[str, ...] | None:
    (found,) = (one for one in CATEGORIES if one is category)
    return wrong_words(found, caption.split(), [reference.split() for reference in references])


@pytest.mark.parametrize(
    ("caption", "references", "expected"),
    [
        ("a woman runs", ["a man runs", "the man", "a guy jogs", "a person", "a runner"], ("woman",)),
        ("a man runs", ["a man runs", "the man", "a guy jogs", "a person", "a runner"], ()),
        ("a man runs", ["a woman", "a lady", "the woman", "a man", "a person"], ()),  # one of five says so
        ("a man", ["a boy", "a boy", "a man or a boy", "a man", "a boy"], ()),
        ("a man", ["a boy", "a boy", "a woman", "a person", "people"], None),  # two of five are no agreement
        ("a man", ["a boy", "the boys", "a little boy", "a person", "people"], ("man",)),
        ("a boy", ["a child", "a kid", "a toddler", "a baby", "children"], ()),  # a child may be a boy
        ("a girl", ["a child", "a kid", "a boy", "a boy", "boys"], ()),  # which here it may be too
        ("a child", ["a girl", "a girl", "a girl", "a girl", "a girl"], ()),
        ("a child", ["a man", "a man", "a man", "a man", "a man"], ("child",)),
        ("an adult", ["a woman", "a woman", "a woman", "a woman", "a woman"], ()),
        ("a person", ["a man", "a man", "a man", "a man", "a man"], None),  # says nothing that could be wrong
        ("a tree", ["a man", "a man", "a man", "a man", "a man"], None),
        ("a man and a woman", ["a man", "a man", "a man", "two men", "a man"], ("woman",)),
        ("a dog", ["a man", "a man", "a man", "a man", "a man"], None),
        ("a man", ["a dog", "the dog", "a black dog", "dogs", "a dog"], ("man",)),  # nobody saw a person
        ("a person", ["a dog", "the dog", "a black dog", "dogs", "a dog"], ("person",)),
        ("a man", ["a dog", "the dog", "a black dog and his owner", "dogs", "a dog"], None),
        ("a man", ["a dog", "the dog", "a group of dogs", "dogs", "a dog"], None),  # a group may be of persons
        ("a man", ["a dog", "a dog"], None),  # two that say nothing of persons may have left them out
        ("a man", ["a dog", "a dog", "a dog"], ("man",)),
        ("a man", ["a woman"], ("man",)),
        ("a man", ["a woman", "a person"], None),
        ("a man", ["a woman", "a person", "a lady"], ("man",)),
    ],
)
def test_persons(caption: str, references: list[str], expected: tuple[str, ...] | None) -> None:
    assert wrong(PERSONS, caption, *references) == expected


@pytest.mark.parametrize(
    ("caption", "references", "expected"),
    [
        ("a dog", ["a cat", "the cat", "a kitten", "an animal", "a pet"], ("dog",)),
        ("a dog", ["a poodle", "a terrier", "the puppies", "an animal", "a pet"], ()),
        ("a horse and a dog", ["a horse", "a pony", "horses", "a horse", "a horse"], ("dog",)),
        ("a horse", ["a horse", "a dog", "a dog", "a dog", "a dog"], ()),
        ("an animal", ["a dog", "a dog", "a dog", "a dog", "a dog"], None),
        ("a dog", ["a boy", "a child", "a boy", "a boy", "a boy"], ("dog",)),
        ("an animal", ["a boy", "a child", "a boy", "a boy", "a boy"], ("animal",)),
        ("a hot dog", ["a boy", "a child", "a boy", "a boy", "a boy"], None),
        ("a boy", ["a boy", "a boy", "a boy eats a hot dog", "a boy", "a boy"], None),
        ("a dog", ["a leash", "a boy", "a boy", "a boy", "a boy"], None),  # of something
    ],
)
def test_animals(caption: str, references: list[str], expected: tuple[str, ...] | None) -> None:
    assert wrong(ANIMALS, caption, *references) == expected


BLUE_SHIRTS = ["a man in a blue shirt", "a blue jacket", "a man wearing a navy top", "a man", "a man with a red ball"]


@pytest.mark.parametrize(
    ("caption", "references", "expected"),
    [
        ("a man in a red shirt", BLUE_SHIRTS, ("red",)),
        ("a man in a blue shirt", BLUE_SHIRTS, ()),
        ("a man in a turquoise shirt", BLUE_SHIRTS, ()),  # which may be blue
        ("a man in a red shirt", [*BLUE_SHIRTS[:4], "a man in a red coat"], ()),
        ("a man with a green ball", BLUE_SHIRTS, None),  # of balls only one speaks
        ("a man in a red shirt", [*BLUE_SHIRTS[:2], "a man", "a man", "a man"], None),
        ("a man in red", BLUE_SHIRTS, ("red",)),
        ("a man in red runs to a car", BLUE_SHIRTS, ("red",)),
        ("a man in a red hooded shirt", BLUE_SHIRTS, ("red",)),
        ("red is a man in a shirt", BLUE_SHIRTS, None),  # "is" stands between
        ("a black and white dog", ["a black dog"] * 5, ("white",)),
        ("a black and white dog", ["a black dog with white paws"] * 5, ()),
        ("a golden retriever", ["a yellow dog"] * 5, ()),
        ("a white water raft", ["a yellow raft"] * 5, None),
        ("a man in a red shirt", ["a man"] * 5, None),  # colours left out are no colours denied
    ],
)
def test_colours(caption: str, references: list[str], expected: tuple[str, ...] | None) -> None:
    assert wrong(COLOURS, caption, *references) == expected


def test_each_category_is_tallied_over_the_photos_that_it_applies_to() -> None:
    references = {
        "1": [["a", "man", "in", "a", "red", "shirt"]] * 5,
        "2": [["a", "man"], ["a", "dog"], ["people"], ["a", "player"], ["a", "cat"]],
        "3": [["a", "dog"]] * 5,
    }
    captions = {
        "1": ["a", "woman", "in", "a", "blue", "shirt", "and", "a", "dog"],
        "2": ["a", "woman", "and", "a", "horse"],
        "3": ["a", "dog"],
    }
    found = contradictions(captions, references)
    assert found == {"persons": Share(1, 1), "animals": Share(1, 2), "colours": Share(1, 1)}
    assert (
        found["animals"].to_json() == {"count": 1, "of": 2, "share": 0.5} and str(found["animals"]) == "1 of 2 (50.0%)"
    )
    assert Share(0, 0).to_json()["share"] == 0 and str(Share(0, 0)) == "0 of 0 (0.0%)"
    assert [names_nothing_wrong(captions[photo], references[photo]) for photo in "123"] == [False, True, True]
    with pytest.raises(MetricError, match="photo 3: has references but no caption"):
        contradictions({"1": [], "2": []}, references)


@given(SENTENCES, st.lists(SENTENCES, min_size=1, max_size=5))
def test_a_caption_that_is_a_reference_is_never_wrong(caption: list[str], others: list[list[str]]) -> None:
    assert names_nothing_wrong(caption, [*others, caption])


@given(
    SENTENCES,
    st.lists(SENTENCES, min_size=1, max_size=5).flatmap(lambda some: st.tuples(st.just(some), st.permutations(some))),
)
def test_the_order_of_references_does_not_count(
    caption: list[str], orders: tuple[list[list[str]], list[list[str]]]
) -> None:
    references, reordered = orders
    for category in CATEGORIES:
        assert wrong_words(category, caption, references) == wrong_words(category, caption, reordered)


@given(SENTENCES, st.lists(SENTENCES, min_size=1, max_size=5))
def test_what_is_wrong_stands_in_the_caption_and_in_no_reference(
    caption: list[str], references: list[list[str]]
) -> None:
    for category in (PERSONS, ANIMALS):
        words = wrong_words(category, caption, references) or ()
        assert set(words) <= set(caption) and not set(words) & {word for tokens in references for word in tokens}


def test_the_lists_name_no_word_as_something_and_as_anything() -> None:
    for groups, anything in (
        (word_groups.PERSONS, word_groups.ANY_PERSON),
        (word_groups.ANIMALS, word_groups.ANY_ANIMAL),
    ):
        named = {word for words in groups.values() for word in words.split()}
        assert not named & anything
    persons = word_groups.word_groups(word_groups.PERSONS, word_groups.ANY_PERSON)
    animals = word_groups.word_groups(word_groups.ANIMALS, word_groups.ANY_ANIMAL)
    assert not persons.keys() & animals.keys()
    things = [word for words in word_groups.COLOURED_THINGS.values() for word in words.split()]
    assert len(things) == len(set(things)) and not set(things) & word_groups.BREAKS
