"""What BLEU and CIDEr-D do not tell of captions: how various they are, and how often they name what is not there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edgecap.metrics.contradictions import contradictions
from edgecap.metrics.diversity import diversity
from edgecap.metrics.pairs import Hypotheses, References
from edgecap.metrics.share import Share


@dataclass(frozen=True)
class Quality:
    """Figures of one set of captions, by the names that reports print."""

    figures: dict[str, Share | int]

    def to_json(self) -> dict[str, dict[str, float] | int]:
        """Shares with their counts, and plain counts."""
        return {name: v.to_json() if isinstance(v, Share) else v for name, v in self.figures.items()}


def quality(
    hypotheses: Hypotheses, references: References, trained_on: Collection[Sequence[str]] | None = None
) -> Quality:
    """Distinct captions and words, captions seen in training, and captions with a wrong person, animal or colour.

    ``trained_on`` are the tokens of the train split's captions; without them nothing is said of what was seen. Of how
    many photos something wrong can be told depends on the captions: see :mod:`edgecap.metrics.contradictions`. Raises
    ``MetricError`` as other metrics.
    """
    wrong = contradictions(hypotheses, references)
    counts = diversity(hypotheses, trained_on)
    figures: dict[str, Share | int] = {"distinct captions": Share(counts.distinct_captions, counts.captions)}
    figures["distinct words"] = counts.distinct_words
    if counts.verbatim is not None:
        figures["seen in training"] = Share(counts.verbatim, counts.captions)
    figures |= {f"wrong {category}": share for category, share in wrong.items()}
    return Quality(figures)
