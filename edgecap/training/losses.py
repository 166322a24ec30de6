"""What is minimised, as terms that can be added up over batches and processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from edgecap.model.captioner import ForcedStep


class Term(NamedTuple):
    """A part of a loss: ``weight * total / over``. The first term of a step is what its log shows."""

    total: Tensor  # a scalar, the sum over ``over`` words or values
    over: float  # words or values
    weight: float = 1.0

    @property
    def mean(self) -> float:
        return self.total.item() / max(self.over, 1)


def caption_terms(
    steps: Iterable[ForcedStep], captions: int, *, smoothing: float = 0.0, attention_penalty: float = 0.0
) -> list[Term]:
    """Cross-entropy in nats, over the words and ``<end>`` of up to ``captions`` captions a photo.

    ``smoothing`` gives that share of a target's probability to all words alike (Szegedy et al. 2016,
    arXiv:1512.00567). ``attention_penalty`` weighs doubly stochastic attention, the mean over captions of
    ``sum_l (1 - sum_t alpha_tl)^2`` (Xu et al. 2015, arXiv:1502.03044, equation 14).
    """
    nll, uniform, words, looked = [], [], 0, []
    for log_probs, alpha, target in steps:
        real = target != 0  # (N, live)
        words += int(real.sum())
        nll.append(-log_probs.gather(-1, target[..., None])[..., 0][real].sum())
        if smoothing:
            uniform.append(-log_probs.mean(dim=-1)[real].sum())
        if attention_penalty:
            alpha = alpha.float() * real[..., None]  # (N, live, L)
            looked.append(F.pad(alpha, (0, 0, 0, captions - alpha.shape[1])))  # (N, K, L)
    terms = [Term(torch.stack(nll).sum(), words, 1 - smoothing)]
    if smoothing:
        terms.append(Term(torch.stack(uniform).sum(), words, smoothing))
    if attention_penalty:
        seen = torch.stack(looked).sum(dim=0)  # (N, K, L)
        there = seen.sum(dim=-1) > 0  # (N, K): a photo with fewer captions has empty ones
        terms.append(Term(((1 - seen) ** 2).sum(dim=-1)[there].sum(), int(there.sum()), attention_penalty))
    return terms


def distance_term(found: Tensor, wanted: Tensor, weight: float) -> Term:
    """Mean squared error over all values of two tensors of one shape."""
    return Term(((found.float() - wanted) ** 2).sum(), wanted.numel(), weight)
