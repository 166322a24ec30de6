"""Persons, animals and colours that a caption names and its references deny, by lists of words.

Each word means one group or several (:mod:`edgecap.metrics.word_groups`); two words agree when they share one. Of each
photo:

- The references agree on a thing when at least three in five of them name the same group: "a dog", "the terrier". Of
  persons and of animals they also agree that there is none, when there are three references or more and none has a word
  of any.
- The check applies when the caption names something that they agree on: of a colour, the colour of the same kind of
  thing, so that a red ball says nothing against a blue shirt.
- A word of the caption is wrong when no reference names a group that it may mean: "a man" where three references say
  "boy" and two "person"; any animal where they agree that there is none. Words like "person" and "animal" are wrong in
  that last case only.

What the references leave open is not counted: of a photo with two references that say "man" and three that say
"people", nothing is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from edgecap.metrics.pairs import Hypotheses, References, check_pairs
from edgecap.metrics.share import Share
from edgecap.metrics.word_groups import (
    ANIMAL_HINTS,
    ANIMALS,
    ANY_ANIMAL,
    ANY_PERSON,
    BREAKS,
    COLOURED_THINGS,
    COLOURS,
    NOT_MEANT,
    PERSON_HINTS,
    PERSONS,
    Groups,
    word_groups,
)

AGREEMENT = (3, 5)  # the share of the references that must name a group
SILENT_REFERENCES = 3  # fewer that name none may have left out what is there


@dataclass(frozen=True)
class Mention:
    """A word of a caption that names something: the kind of thing it is said of, and the groups that it may mean."""

    word: str
    thing: str
    groups: frozenset[str]


@dataclass(frozen=True)
class Category:
    """Something that captions name. Where ``hints`` are given, references with none of its words tell of its absence.

    ``hints`` are words that may tell of it and do not name it.
    """

    name: str
    mentions: Callable[[Sequence[str]], list[Mention]]
    hints: frozenset[str] | None = None


def contradictions(hypotheses: Hypotheses, references: References) -> dict[str, Share]:
    """Of each category, the captions with a wrong word among those that can be checked: persons, animals, colours.

    Raises ``MetricError`` as other metrics do.
    """
    check_pairs(hypotheses, references)
    shares = {}
    for category in CATEGORIES:
        found = [wrong_words(category, tokens, references[photo]) for photo, tokens in hypotheses.items()]
        checked = [words for words in found if words is not None]
        shares[category.name] = Share(sum(map(bool, checked)), len(checked))
    return shares


def names_nothing_wrong(caption: Sequence[str], references: Sequence[Sequence[str]]) -> bool:
    """Whether the references deny no person, animal or colour of the caption."""
    return not any(wrong_words(category, caption, references) for category in CATEGORIES)


def wrong_words(
    category: Category, caption: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[str, ...] | None:
    """The words of the caption that are wrong, by the rule above; ``None`` where the check does not apply."""
    said = category.mentions(caption)
    by_reference = [category.mentions(reference) for reference in references]
    if category.hints is not None and _none_there(category.hints, by_reference, references):
        return tuple(mention.word for mention in said) or None
    checked = [m for m in said if m.groups and _agree(m.thing, by_reference)]
    if not checked:
        return None
    named = {(mention.thing, group) for mentions in by_reference for mention in mentions for group in mention.groups}
    return tuple(m.word for m in checked if not any((m.thing, group) in named for group in m.groups))


def _none_there(
    hints: frozenset[str], by_reference: Sequence[Sequence[Mention]], references: Sequence[Sequence[str]]
) -> bool:
    silent = not any(by_reference) and not any(token in hints for reference in references for token in reference)
    return silent and len(references) >= SILENT_REFERENCES


def _agree(thing: str, by_reference: Sequence[Sequence[Mention]]) -> bool:
    """Whether enough references name one group of the thing."""
    votes = Counter(
        group
        for mentions in by_reference
        for group in {group for mention in mentions if mention.thing == thing for group in mention.groups}
    )
    least, of = AGREEMENT
    return any(count * of >= least * len(by_reference) for count in votes.values())


def _named(groups: Groups, tokens: Sequence[str]) -> list[Mention]:
    """What the words of ``groups`` name: one kind of thing."""
    return [Mention(token, "", groups[token]) for token in _meant(tokens) if token in groups]


def _coloured(tokens: Sequence[str]) -> list[Mention]:
    """Colours, with the kind of thing that each is said of: the next one that no break stands before.

    "In red" is said of clothes when nothing follows that it could be said of.
    """
    words = list(_meant(tokens))
    found = []
    for position, word in enumerate(words):
        if word not in _COLOURS:
            continue
        thing = _next_thing(words[position + 1 :])
        if thing is None and words[position - 1 : position] == ["in"]:
            thing = "clothes"
        if thing is not None:
            found.append(Mention(word, thing, _COLOURS[word]))
    return found


def _next_thing(words: Iterable[str]) -> str | None:
    for word in words:
        if word in _THINGS:
            return _THINGS[word]
        if word in BREAKS:
            return None
    return None


def _meant(tokens: Sequence[str]) -> Iterable[str]:
    """The tokens without the pairs that mean something else."""
    skip = False
    for token, following in pairwise([*tokens, ""]):
        if skip:  # the second of a pair
            skip = False
        elif (token, following) in NOT_MEANT:
            skip = True
        else:
            yield token


_COLOURS = word_groups(COLOURS)
_THINGS = {word: thing for thing, words in COLOURED_THINGS.items() for word in words.split()}

CATEGORIES = (
    Category("persons", partial(_named, word_groups(PERSONS, ANY_PERSON)), PERSON_HINTS),
    Category("animals", partial(_named, word_groups(ANIMALS, ANY_ANIMAL)), ANIMAL_HINTS),
    Category("colours", _coloured),
)
