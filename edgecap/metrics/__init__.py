"""Caption metrics on token sequences: BLEU, ROUGE-L, CIDEr-D; METEOR and SPICE with the extra ``eval-java``.

Beside them :func:`quality` counts what these do not see: variety, and persons, animals and colours that are not there.

No tokenizer is run: both sides are tokens already (those of Karpathy's splits, in this project). The functions return
pycocoevalcap's scale (BLEU-4 0.195, CIDEr-D 0.453) and are equal to pycocoevalcap 1.2; only :meth:`Scores.to_json`
multiplies by 100, as papers and reports do (19.5, 45.3).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from edgecap.metrics.bleu import Bleu, bleu
from edgecap.metrics.cider import CiderD, cider_d
from edgecap.metrics.java import meteor, meteor_jar, spice, spice_jar
from edgecap.metrics.pairs import Hypotheses, References, check_pairs
from edgecap.metrics.quality import Quality, quality
from edgecap.metrics.rouge import rouge_l

__all__ = [
    "EXTRA_METRICS",
    "CiderD",
    "Quality",
    "Scores",
    "bleu",
    "cider_d",
    "meteor",
    "quality",
    "rouge_l",
    "score",
    "spice",
]


@dataclass(frozen=True)
class Scores:
    """Figures of one set of captions, as fractions; ``None`` is a metric that was not asked for."""

    bleu: Bleu
    rouge_l: float
    cider_d: float
    meteor: float | None = None
    spice: float | None = None

    @classmethod
    def mean(cls, scores: Collection[Scores]) -> Scores:
        """The mean of BLEU, ROUGE-L and CIDEr-D over datasets, each of which counts alike."""
        count = len(scores)
        first, second, third, fourth = (sum(one.bleu[n] for one in scores) / count for n in range(4))
        bleu = first, second, third, fourth
        return cls(bleu, sum(one.rouge_l for one in scores) / count, sum(one.cider_d for one in scores) / count)

    def to_json(self) -> dict[str, float]:
        """Figures times 100, to four decimals, by the names that reports print."""
        figures = {f"BLEU-{order}": value for order, value in enumerate(self.bleu, start=1)}
        figures |= {"ROUGE-L": self.rouge_l, "CIDEr-D": self.cider_d}
        optional = {"METEOR": self.meteor, "SPICE": self.spice}
        figures |= {name: value for name, value in optional.items() if value is not None}
        return {name: round(100 * value, 4) for name, value in figures.items()}


# Metrics by request, each with the check for what it needs.
EXTRA_METRICS = {"METEOR": (meteor_jar, meteor), "SPICE": (spice_jar, spice)}


def score(hypotheses: Hypotheses, references: References, *, extra: Collection[str] = ()) -> Scores:
    """Score each photo's caption against its references; ``extra`` names further metrics, ``METEOR`` and ``SPICE``.

    Raises:
        MetricError: a photo has a caption or references only, no reference at all, or text instead of tokens; the set
            is empty; or something that an extra metric needs is missing (found out before any work).
        MissingExtraError: an extra metric, and pycocoevalcap is not installed.
    """
    check_pairs(hypotheses, references)
    for name in extra:
        EXTRA_METRICS[name][0]()
    further = {name: EXTRA_METRICS[name][1](hypotheses, references) for name in extra}
    return Scores(
        bleu=bleu(hypotheses, references),
        rouge_l=rouge_l(hypotheses, references),
        cider_d=cider_d(hypotheses, references),
        meteor=further.get("METEOR"),
        spice=further.get("SPICE"),
    )
