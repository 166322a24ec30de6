"""ROUGE-L: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, section 3.

With L the longest common subsequence of a hypothesis and a reference, P = L / |hypothesis| and R = L / |reference|:
``F = (1 + beta^2) P R / (R + beta^2 P)``, beta 1.2, averaged over the photos. As pycocoevalcap does, P and R are each
the best over the references, so that they may come from two different ones. An empty hypothesis scores 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from edgecap.metrics.pairs import Hypotheses, References, check_pairs

BETA = 1.2


def rouge_l(hypotheses: Hypotheses, references: References) -> float:
    """Mean ROUGE-L over the photos, as a fraction of one."""
    check_pairs(hypotheses, references)
    return sum(sentence_rouge_l(tokens, references[photo]) for photo, tokens in hypotheses.items()) / len(hypotheses)


def sentence_rouge_l(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """ROUGE-L of one hypothesis against all of its references."""
    precision = recall = 0.0
    for reference in references:
        common = common_subsequence_length(hypothesis, reference)
        if common:  # so neither side is empty
            precision = max(precision, common / len(hypothesis))
            recall = max(recall, common / len(reference))
    if precision == 0.0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def common_subsequence_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, a whole row of the usual table at a time in the bits of one integer.

    Hyyro, "Bit-parallel LCS-length computation revisited", 2004: bit i of ``row`` is 0 where the table steps up at
    column i, so the zeros that are left at the end are the length.
    """
    positions: defaultdict[str, int] = defaultdict(int)
    for index, token in enumerate(first):
        positions[token] |= 1 << index
    columns = (1 << len(first)) - 1
    row = columns
    for token in second:
        match = row & positions.get(token, 0)
        row = ((row + match) | (row - match)) & columns
    return len(first) - row.bit_count()
