"""CIDEr-D: Vedantam, Zitnick, Parikh, "CIDEr: Consensus-based Image Description Evaluation", 2015, equations 1, 2, 6.

Every n-gram g of a sentence has the weight ``count(g) * log(N / df(g))``: N photos, of which df(g) have g in a
reference (at least 1, for n-grams that no reference has). For each order n, hypothesis h and reference r are compared
by a clipped cosine and a Gaussian of their lengths' difference::

    10 * exp(-(|h| - |r|)^2 / (2 sigma^2)) * sum_g min(h_g, r_g) r_g / (norm(h) norm(r))

averaged over the orders 1 to 4 and over the references; sigma is 6. The scale runs to 10, and a good captioner of
Flickr8k has about 0.45, which papers print as 45. One photo alone scores 0: the weight of each n-gram is log(1).
pycocoevalcap's class ``Cider`` is this same CIDEr-D, not the plain CIDEr of equations 1 to 4.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecap.errors import MetricError
from edgecap.metrics.ngrams import MAX_ORDER, Ngram, ngram_counts
from edgecap.metrics.pairs import Hypotheses, References, check_hypotheses, check_pairs, check_references

SIGMA = 6.0
SCALE = 10.0


def cider_d(hypotheses: Hypotheses, references: References) -> float:
    """Mean CIDEr-D over the photos, document frequencies from the references given."""
    check_pairs(hypotheses, references)
    return CiderD(references).score(hypotheses)[0]


@dataclass(frozen=True, slots=True)
class _Sentence:
    counts: Counter[Ngram]
    norms: tuple[float, ...]  # one an order
    length: int


class CiderD:
    """CIDEr-D against fixed references: document frequencies and the references' norms are computed once.

    That is what self-critical training needs (Rennie et al. 2017): frequencies of the whole train split, and many
    captions of a few photos at a time. Memory is about 5 KB a reference.
    """

    def __init__(self, references: References) -> None:
        check_references(references)
        counts = {photo: [ngram_counts(tokens) for tokens in sentences] for photo, sentences in references.items()}
        photos_with = Counter(ngram for sentences in counts.values() for ngram in set().union(*sentences))
        self._unseen_idf = math.log(len(references))
        self._idf = {ngram: self._unseen_idf - math.log(photos) for ngram, photos in photos_with.items()}
        self._references = {
            photo: [
                self._sentence(sentence, len(tokens)) for sentence, tokens in zip(made, references[photo], strict=True)
            ]
            for photo, made in counts.items()
        }

    def against(self, references: References) -> CiderD:
        """The same against other references, with the document frequencies of those that it was made of."""
        check_references(references)
        other = copy.copy(self)
        other._references = {
            photo: [self._sentence(ngram_counts(tokens), len(tokens)) for tokens in sentences]
            for photo, sentences in references.items()
        }
        return other

    def score(self, hypotheses: Hypotheses) -> tuple[float, NDArray[np.float64]]:
        """The mean, and every photo's score in the order of ``hypotheses``; any of the references' photos will do."""
        check_hypotheses(hypotheses)
        for photo in hypotheses:
            if photo not in self._references:
                raise MetricError(f"photo {photo}: has a caption but no references")
        scores = np.array([self._photo(tokens, self._references[photo]) for photo, tokens in hypotheses.items()])
        return float(scores.mean()), scores

    def _sentence(self, counts: Counter[Ngram], length: int) -> _Sentence:
        squares = [0.0] * MAX_ORDER
        for ngram, count in counts.items():
            squares[len(ngram) - 1] += (count * self._idf.get(ngram, self._unseen_idf)) ** 2
        return _Sentence(counts, tuple(map(math.sqrt, squares)), length)

    def _photo(self, tokens: Sequence[str], references: Sequence[_Sentence]) -> float:
        hypothesis = self._sentence(ngram_counts(tokens), len(tokens))
        # An n-gram that no reference has cannot match; idf is squared because both sides carry it
        weighted = [
            (ngram, len(ngram) - 1, count, self._idf[ngram] ** 2)
            for ngram, count in hypothesis.counts.items()
            if ngram in self._idf
        ]
        total = 0.0
        for reference in references:
            dots = [0.0] * MAX_ORDER
            for ngram, order, count, idf_squared in weighted:
                if there := reference.counts.get(ngram, 0):
                    dots[order] += min(count, there) * there * idf_squared
            norms = zip(dots, hypothesis.norms, reference.norms, strict=True)
            cosines = sum(dot / (ours * theirs) for dot, ours, theirs in norms if ours and theirs)
            total += cosines * math.exp(-((hypothesis.length - reference.length) ** 2) / (2 * SIGMA**2))
        return SCALE * total / (MAX_ORDER * len(references))
