"""Encoder and decoder as one module, with the vocabulary that they were trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgecap.architectures.lstm.decoder import Decoder
from edgecap.architectures.lstm.dims import ModelDims
from edgecap.architectures.lstm.encoder import Encoder


class ForcedStep(NamedTuple):
    """One word of N photos' captions, of which the first ``live`` still go on somewhere."""

    log_probs: Tensor  # (N, live, V)
    alpha: Tensor  # (N, live, L)
    target: Tensor  # (N, live) int64, the word that follows, 0 for padding


class CaptionModel(nn.Module):
    """The whole captioner in torch."""

    def __init__(self, dims: ModelDims, dropout: float = 0.0) -> None:
        super().__init__()
        self.dims = dims
        self.encoder = Encoder(dims)
        self.decoder = Decoder(dims, dropout)

    def forced_steps(self, features: Tensor, captions: Tensor, own_words: float = 0.0) -> Iterator[ForcedStep]:
        """Given captions, word by word, fed with their own words.

        features (N, L, D); captions (N, K, T + 1) int64, from ``<start>`` to ``<end>``, then ``<pad>`` (id 0), the
        captions of each photo ordered from long to short. With ``own_words`` p, a word that is fed is drawn from the
        model's last distribution instead with probability p (scheduled sampling, Bengio et al. 2015,
        arXiv:1506.03099).
        """
        keys, h, c = self.decoder.init_state(features)
        _, count, length = captions.shape
        h = h[:, None].expand(-1, count, -1).float()  # (N, K, H)
        c = c[:, None].expand(-1, count, -1).float()  # the sum over all steps, so never in bfloat16
        token = captions[:, :, 0]  # (N, K)
        for t in range(length - 1):
            # Captions are ordered from long to short, so the columns that have ended everywhere are the last ones.
            live = int((captions[:, :, t + 1] != 0).any(dim=0).sum())
            h, c = h[:, :live], c[:, :live]
            log_probs, h, c, alpha = self.decoder.step(token[:, :live], h, c, features, keys)  # (N, live, V)
            target = captions[:, :live, t + 1]  # (N, live)
            yield ForcedStep(log_probs, alpha, target)
            token = target
            if own_words:
                drawn = log_probs.detach().exp().flatten(0, 1).multinomial(1).view_as(target)  # (N, live)
                fed = (torch.rand(target.shape, device=target.device) < own_words) & (target != 0)
                token = torch.where(fed, drawn, target)

    def teacher_forced(self, features: Tensor, captions: Tensor) -> Tensor:
        """Log-probabilities of the words of given captions: (N, K, T), 0 where the next word is padding.

        Axes and order as in :meth:`forced_steps`.
        """
        count, steps = captions.shape[1], []
        for log_probs, _, target in self.forced_steps(features, captions):
            chosen = log_probs.gather(-1, target[..., None])[..., 0].masked_fill(target == 0, 0.0)  # (N, live)
            steps.append(nn.functional.pad(chosen, (0, count - chosen.shape[1])))  # (N, K)
        return torch.stack(steps, dim=-1)  # (N, K, T)
