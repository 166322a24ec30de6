"""Hypotheses beside their references, checked once before a metric reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgecap.errors import MetricError

Hypotheses = Mapping[str, Sequence[str]]  # photo id -> tokens of its one caption
References = Mapping[str, Sequence[Sequence[str]]]  # photo id -> tokens of each of its references


def check_hypotheses(hypotheses: Hypotheses) -> None:
    """Raise :class:`MetricError` for an empty set, or a caption that was not split into tokens."""
    if not hypotheses:
        raise MetricError("no captions to score: the set of photos is empty")
    for photo, tokens in hypotheses.items():
        if isinstance(tokens, str):
            raise MetricError(f"photo {photo}: the caption is one string, but a metric reads a sequence of tokens")


def check_references(references: References) -> None:
    """Raise :class:`MetricError` for an empty set, or a photo whose references are missing or not tokens."""
    if not references:
        raise MetricError("no references to score against: the set of photos is empty")
    for photo, sentences in references.items():
        if not sentences:
            raise MetricError(f"photo {photo}: no reference caption")
        if isinstance(sentences, str) or any(isinstance(tokens, str) for tokens in sentences):
            raise MetricError(f"photo {photo}: a reference is one string, but a metric reads a sequence of tokens")


def check_pairs(hypotheses: Hypotheses, references: References) -> None:
    """Raise :class:`MetricError` naming the first photo that is wrong, or that only one side has."""
    check_hypotheses(hypotheses)
    check_references(references)
    for photo in hypotheses:
        if photo not in references:
            raise MetricError(f"photo {photo}: has a caption but no references")
    for photo in references:
        if photo not in hypotheses:
            raise MetricError(f"photo {photo}: has references but no caption")
