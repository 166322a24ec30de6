"""What a captioner is in torch, whatever its architecture: an encoder of photos, and one step of a decoder.

The one ``step`` trains, is exported, and is compared with the export. Memory and state are tensors by name, as in
``runtime.engines.engine``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgecap.architectures.dims import CaptionerDims

Tensors = Mapping[str, Tensor]


class TorchStep(NamedTuple):
    """One decoder step for K captions of each of N photos."""

    log_probs: Tensor  # (N, K, V)
    state: Tensors  # (N, K, ...) each
    attention: Tensor | None  # (N, K, L); None of architectures that have none


class ForcedStep(NamedTuple):
    """One word of N photos' captions, of which the first ``live`` still go on somewhere."""

    log_probs: Tensor  # (N, live, V)
    attention: Tensor | None  # (N, live, L)
    target: Tensor  # (N, live) int64, the word that follows, 0 for padding


class PhotoEncoder(nn.Module, ABC):
    """Photos (B, 3, S, S) -> features (B, L, D), by way of a backbone's grid, which is cached when it is frozen."""

    backbone: nn.Module
    projection: nn.Module  # (B, L, C) -> (B, L, D)

    @abstractmethod
    def grid(self, images: Tensor) -> Tensor:
        """The backbone's map as locations: (B, 3, S, S) -> (B, L, C)."""

    def forward(self, images: Tensor) -> Tensor:
        return self.projection(self.grid(images))  # type: ignore[no-any-return]  # (B, L, D)


class CaptionNetwork(nn.Module, ABC):
    """The whole captioner."""

    dims: CaptionerDims
    encoder: PhotoEncoder
    decoder: nn.Module  # what learns beside the encoder

    @abstractmethod
    def begin(self, features: Tensor) -> tuple[Tensors, Tensors]:
        """Once per photo: features (N, L, D) -> memory (N, ...) each, and the first state (N, ...) each."""

    @abstractmethod
    def step(self, token: Tensor, state: Tensors, memory: Tensors) -> TorchStep:
        """One word: token (N, K) int64, state (N, K, ...) each, memory (N, ...) each."""

    def forced_steps(self, features: Tensor, captions: Tensor) -> Iterator[ForcedStep]:
        """Given captions, word by word, fed with their own words.

        features (N, L, D); captions (N, K, T + 1) int64, from ``<start>`` to ``<end>``, then ``<pad>`` (id 0), the
        captions of each photo ordered from long to short.
        """
        memory, first = self.begin(features)
        return self.steps_from(memory, first, captions)

    def steps_from(self, memory: Tensors, first: Tensors, captions: Tensor) -> Iterator[ForcedStep]:
        """The same, of what :meth:`begin` made of the features."""
        _, count, length = captions.shape
        state = several(first, count)
        for t in range(length - 1):
            # Captions are ordered from long to short, so the columns that have ended everywhere are the last ones.
            live = int((captions[:, :, t + 1] != 0).any(dim=0).sum())
            state = {name: value[:, :live] for name, value in state.items()}
            log_probs, state, attention = self.step(captions[:, :live, t], state, memory)
            yield ForcedStep(log_probs, attention, captions[:, :live, t + 1])

    def teacher_forced(self, features: Tensor, captions: Tensor) -> Tensor:
        """Log-probabilities of the words of given captions: (N, K, T), 0 where the next word is padding.

        Axes and order as in :meth:`forced_steps`.
        """
        count, steps = captions.shape[1], []
        for log_probs, _, target in self.forced_steps(features, captions):
            chosen = log_probs.gather(-1, target[..., None])[..., 0].masked_fill(target == 0, 0.0)  # (N, live)
            steps.append(nn.functional.pad(chosen, (0, count - chosen.shape[1])))  # (N, K)
        return torch.stack(steps, dim=-1)  # (N, K, T)


def several(first: Tensors, count: int) -> Tensors:
    """The first state of ``count`` captions of each photo: (N, ...) -> (N, K, ...) each.

    What is a sum over all steps must never be bfloat16, so states are float32.
    """
    state = {}
    for name, value in first.items():
        copies = value[:, None].expand(-1, count, *value.shape[1:])  # (N, K, ...)
        state[name] = copies.float() if value.is_floating_point() else copies
    return state
