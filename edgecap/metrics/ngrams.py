"""n-grams of a token sequence, counted: what BLEU and CIDEr-D both look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

MAX_ORDER = 4  # BLEU-4 (Papineni et al. 2002) and CIDEr (Vedantam et al. 2015) both stop at four words

Ngram = tuple[str, ...]


def ngram_counts(tokens: Sequence[str], max_order: int = MAX_ORDER) -> Counter[Ngram]:
    """How often each run of 1 to ``max_order`` consecutive tokens occurs in ``tokens``."""
    counts: Counter[Ngram] = Counter()
    for order in range(1, max_order + 1):
        # n shifted copies of the tokens, read in step, are the runs of n
        counts.update(zip(*(tokens[shift:] for shift in range(order)), strict=False))
    return counts
