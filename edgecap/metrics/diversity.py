"""How many different things captions say: a captioner may score well with a few sentences that fit many photos."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edgecap.metrics.pairs import Hypotheses, check_hypotheses


@dataclass(frozen=True)
class Diversity:
    """Counts over the captions of a set of photos; captions are the same when all their tokens are."""

    captions: int
    distinct_captions: int
    distinct_words: int
    verbatim: int | None  # captions that also stand in the train split; None without one


def diversity(hypotheses: Hypotheses, trained_on: Collection[Sequence[str]] | None = None) -> Diversity:
    """Count; ``trained_on`` are the tokens of the train split's captions. Raises ``MetricError`` as other metrics."""
    check_hypotheses(hypotheses)
    captions = [tuple(tokens) for tokens in hypotheses.values()]
    seen = None if trained_on is None else {tuple(tokens) for tokens in trained_on}
    return Diversity(
        captions=len(captions),
        distinct_captions=len(set(captions)),
        distinct_words=len({token for tokens in captions for token in tokens}),
        verbatim=None if seen is None else sum(tokens in seen for tokens in captions),
    )
