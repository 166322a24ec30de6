"""Encoder and decoder as one module, with the vocabulary that they were trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgecap.model.decoder import Decoder
from edgecap.model.dims import ModelDims
from edgecap.model.encoder import Encoder


class CaptionModel(nn.Module):
    """The whole captioner in torch."""

    def __init__(self, dims: ModelDims, dropout: float = 0.0) -> None:
        super().__init__()
        self.dims = dims
        self.encoder = Encoder(dims)
        self.decoder = Decoder(dims, dropout)

    def teacher_forced(self, features: Tensor, captions: Tensor) -> Tensor:
        """Log-probabilities of given captions, fed with their own words.

        features (N, L, D); captions (N, K, T + 1) int64, from ``<start>`` to ``<end>``, then ``<pad>`` (id 0), the
        captions of each photo ordered from long to short -> (N, K, T), 0 where the next word is padding.
        """
        keys, h, c = self.decoder.init_state(features)
        _, count, length = captions.shape
        h = h[:, None].expand(-1, count, -1).float()  # (N, K, H)
        c = c[:, None].expand(-1, count, -1).float()  # the sum over all steps, so never in bfloat16
        steps = []
        for t in range(length - 1):
            # Captions are ordered from long to short, so the columns that have ended everywhere are the last ones.
            live = int((captions[:, :, t + 1] != 0).any(dim=0).sum())
            h, c = h[:, :live], c[:, :live]
            log_probs, h, c, _ = self.decoder.step(captions[:, :live, t], h, c, features, keys)  # (N, live, V)
            target = captions[:, :live, t + 1, None]  # (N, live, 1)
            chosen = log_probs.gather(-1, target)[..., 0].masked_fill(target[..., 0] == 0, 0.0)  # (N, live)
            steps.append(nn.functional.pad(chosen, (0, count - live)))  # (N, K)
        return torch.stack(steps, dim=-1)  # (N, K, T)
