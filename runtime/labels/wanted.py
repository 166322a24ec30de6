"""The labels that a photo may get: a whole table's, or some that were asked for, ready to be compared with photos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgecap.errors import OptionError
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.labels.label import Label
from edgecap.runtime.labels.names import check_name, key_of
from edgecap.runtime.labels.table import MAX_LABELS, LabelTable
from edgecap.runtime.labels.text_side import TextSide
from edgecap.runtime.labels.unknown import unknown_labels
from edgecap.runtime.labels.vectors import unit_vectors
from edgecap.runtime.wording import counted


@dataclass(frozen=True, eq=False)
class Wanted:
    """n labels of a space of width E: unit vectors as columns (E, m), and the calibration (n,) of each, all float32.

    ``places`` (n,) are the columns of the labels: names of one vector share it, or rounding would tell them apart.
    """

    space: str
    names: tuple[str, ...]
    columns: FloatArray
    places: NDArray[np.intp]
    slopes: FloatArray
    intercepts: FloatArray
    thresholds: FloatArray
    doubles: tuple[str, ...] = ()  # what was asked for more than once; it is answered once

    def of(self, photo: FloatArray, top: int, threshold: float | None) -> tuple[Label, ...]:
        """At most ``top`` labels of a photo's unit vector (E,), those that are at least as likely as ``threshold``.

        ``None``: each as likely as its own threshold.
        """
        similarities = (photo @ self.columns)[self.places]  # (n,)
        logits = self.slopes * similarities + self.intercepts
        # Held against the threshold before probabilities are made of them, which a few of thousands of labels need.
        (found,) = np.nonzero(logits >= (self.limits if threshold is None else _logits(threshold)))
        if len(found) > top:  # with all that are as likely as the last of them: the first asked for goes first
            least = -np.partition(-logits[found], top - 1)[top - 1]
            found = found[logits[found] >= least]
        ranked = found[np.lexsort((found, -logits[found]))][:top]
        confidences = 0.5 * (1 + np.tanh(0.5 * logits[ranked].astype(np.float64)))  # the logistic function
        return tuple(
            Label(self.names[row], confidence, similarity)
            for row, confidence, similarity in zip(
                ranked.tolist(), confidences.tolist(), similarities[ranked].tolist(), strict=True
            )
        )

    @cached_property
    def limits(self) -> FloatArray:
        """The thresholds (n,) as logits."""
        return _logits(self.thresholds)


def _logits(probabilities: FloatArray | float) -> FloatArray:
    """What the logistic function makes ``probabilities`` of: of 0 and 1, what is beyond all numbers."""
    with np.errstate(divide="ignore"):
        exact = np.asarray(probabilities, np.float64)
        logits: FloatArray = (np.log(exact) - np.log1p(-exact)).astype(np.float32)
    return logits


def whole(table: LabelTable) -> Wanted:
    """Every label of a table, by its first name."""
    names = tuple(names[0] for names in table.names)
    places = np.arange(len(table))
    return Wanted(table.space, names, table.columns, places, table.slopes, table.intercepts, table.thresholds)


def chosen(table: LabelTable, words: Iterable[str], text: TextSide | None) -> Wanted:
    """The labels that are asked for by ``words``, each called as it was asked for.

    Words that are no names of the table are embedded by ``text``, and taken to be as likely, at a similarity, as the
    table's labels are in the median. Raises :class:`~edgecap.errors.OptionError` for what can be no list of labels,
    and without ``text`` for such words.
    """
    asked, doubles = _asked(words)
    unknown = [word for key, word in asked.items() if key not in table.rows]
    if unknown and text is None:
        raise OptionError(unknown_labels(table, unknown))
    rows = np.array([table.rows[key] for key in asked if key in table.rows], np.intp)
    distinct, places = np.unique(rows, return_inverse=True)
    known = Wanted(
        table.space,
        tuple(word for key, word in asked.items() if key in table.rows),
        np.ascontiguousarray(table.columns[:, distinct]),
        places,
        table.slopes[rows],
        table.intercepts[rows],
        table.thresholds[rows],
        doubles,
    )
    return known if text is None or not unknown else _with_embedded(known, table, unknown, text)


def _asked(words: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """What is asked for by its key, as it was first written; and what was asked for again."""
    if isinstance(words, str | bytes) or not isinstance(words, Iterable):
        raise OptionError(f"labels must be a list of words, not {words!r:.60}")
    asked: dict[str, str] = {}
    doubles: dict[str, str] = {}
    for word in words:
        if not isinstance(word, str):
            raise OptionError(f"labels must be words, not {word!r:.60}")
        try:
            check_name(word)
        except ValueError as error:
            raise OptionError(f"labels: {error}") from error
        key = key_of(word)
        if key in asked:
            doubles[key] = asked[key]
        asked.setdefault(key, word)
        if len(asked) > MAX_LABELS:
            raise OptionError(f"labels: at most {counted(MAX_LABELS, 'label')} can be asked for")
    if not asked:
        raise OptionError("labels: none is named")
    return asked, tuple(doubles.values())


def _with_embedded(known: Wanted, table: LabelTable, words: Sequence[str], text: TextSide) -> Wanted:
    vectors = text.embed(words)  # (n, E)
    if vectors.shape != (len(words), table.width):
        raise OptionError(
            f"the text side made {vectors.shape} of {counted(len(words), 'word')}, not width {table.width}"
        )

    def joined(some: FloatArray, all_labels: FloatArray) -> FloatArray:
        return np.concatenate([some, np.full(len(words), np.median(all_labels), np.float32)])

    return replace(
        known,
        names=(*known.names, *words),
        columns=np.concatenate([known.columns, unit_vectors(vectors, "the text side").T], axis=1),
        places=np.concatenate([known.places, known.columns.shape[1] + np.arange(len(words))]),
        slopes=joined(known.slopes, table.slopes),
        intercepts=joined(known.intercepts, table.intercepts),
        thresholds=joined(known.thresholds, table.thresholds),
    )
