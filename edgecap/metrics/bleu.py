"""Corpus BLEU-1..4: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", 2002.

With p_k the clipped precision of the k-grams, c the length of all hypotheses and r the sum of the closest reference
lengths, all counted over the whole corpus: ``BLEU-n = min(1, exp(1 - r/c)) * (p_1 * ... * p_n) ** (1/n)``.

The closest length breaks a tie towards the shorter reference. Zeros are smoothed as pycocoevalcap does, so that
figures are equal to it: an order without any k-grams (captions of one word) has precision 1e-15 / 1e-9, not 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgecap.metrics.ngrams import MAX_ORDER, ngram_counts
from edgecap.metrics.pairs import Hypotheses, References, check_pairs

NUMERATOR_FLOOR = 1e-15
DENOMINATOR_FLOOR = 1e-9

Bleu = tuple[float, float, float, float]


def bleu(hypotheses: Hypotheses, references: References) -> Bleu:
    """BLEU-1, -2, -3 and -4 of the corpus, as fractions of one."""
    check_pairs(hypotheses, references)
    matched, total = [0] * MAX_ORDER, [0] * MAX_ORDER
    hypothesis_length = reference_length = 0
    for photo, hypothesis in hypotheses.items():
        hypothesis_length += len(hypothesis)
        reference_length += closest_length(len(hypothesis), references[photo])
        for order, count in enumerate(clipped_matches(hypothesis, references[photo])):
            matched[order] += count
            total[order] += max(0, len(hypothesis) - order)

    ratio = (hypothesis_length + NUMERATOR_FLOOR) / (reference_length + DENOMINATOR_FLOOR)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for order in range(MAX_ORDER):
        product *= (matched[order] + NUMERATOR_FLOOR) / (total[order] + DENOMINATOR_FLOOR)
        scores.append(brevity * product ** (1 / (order + 1)))
    return scores[0], scores[1], scores[2], scores[3]


def closest_length(length: int, references: Sequence[Sequence[str]]) -> int:
    """Length of the reference nearest to ``length``; the shorter of two that are equally near."""
    return min((len(reference) for reference in references), key=lambda other: (abs(other - length), other))


def clipped_matches(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> list[int]:
    """Per order, the n-grams of ``hypothesis`` also in a reference, each at most as often as the reference richest
    in it has it."""
    allowed = [ngram_counts(reference) for reference in references]
    matches = [0] * MAX_ORDER
    for ngram, count in ngram_counts(hypothesis).items():
        matches[len(ngram) - 1] += min(count, max(counts.get(ngram, 0) for counts in allowed))
    return matches
