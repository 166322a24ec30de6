"""What is minimised, as terms that can be added up over batches and processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from edgecap.architectures.network import ForcedWords


class Term(NamedTuple):
    """A part of a loss: ``weight * total / over``. The first term of a step is what its log shows."""

    total: Tensor  # a scalar, the sum over ``over`` words or values
    over: float | Tensor  # words or values
    weight: float = 1.0

    @property
    def mean(self) -> float:
        return self.total.item() / max(float(self.over), 1)


def loss_of(terms: Sequence[Term], over: Iterable[float | Tensor]) -> Tensor:
    """The loss, a scalar: each term's total over the words or values that ``over`` has for it."""
    return torch.stack([term.weight * term.total / of for term, of in zip(terms, over, strict=True)]).sum()


@dataclass(frozen=True)
class SoftTargets:
    """A teacher's probabilities of all words in every place (M, V); ``share`` of the words' loss is theirs."""

    distributions: Tensor
    share: float
    temperature: float = 1.0

    def distances(self, log_probs: Tensor) -> Tensor:
        """Cross-entropies (M,), both distributions softened, times the temperature squared (Hinton et al. 2015)."""
        if self.temperature == 1:
            soft, ours = self.distributions, log_probs
        else:
            soft = (self.distributions.clamp_min(1e-12).log() / self.temperature).softmax(dim=-1)
            ours = (log_probs / self.temperature).log_softmax(dim=-1)
        return -(soft * ours).sum(dim=-1) * self.temperature**2


def caption_terms(words: ForcedWords, *, smoothing: float = 0.0, soft: SoftTargets | None = None) -> list[Term]:
    """Cross-entropy in nats, over the words and ``<end>`` of the captions.

    ``smoothing`` gives that share of a target's probability to all words alike (Szegedy et al. 2016,
    arXiv:1512.00567).
    """
    log_probs, target, _, count = words
    real, hard = target != 0, 1 - soft.share if soft else 1.0

    def term(distances: Tensor, weight: float) -> Term:
        """Of distances (M,), but for padding's."""
        return Term((distances * real).sum(), count, weight)

    terms = [term(-log_probs.gather(-1, target[:, None])[:, 0], hard * (1 - smoothing))]
    if smoothing:
        terms.append(term(-log_probs.mean(dim=-1), hard * smoothing))
    if soft:
        terms.append(term(soft.distances(log_probs), soft.share))
    return terms


def joined(parts: Sequence[Sequence[Term]]) -> list[Term]:
    """The terms of several parts of a batch, in the same order each, as terms of the whole batch."""
    return [
        Term(torch.stack([term.total for term in terms]).sum(), sum(term.over for term in terms), terms[0].weight)
        for terms in zip(*parts, strict=True)
    ]


def distance_term(found: Tensor, wanted: Tensor, weight: float) -> Term:
    """Mean squared error over all values of two tensors of one shape."""
    return Term(((found.float() - wanted) ** 2).sum(), wanted.numel(), weight)
