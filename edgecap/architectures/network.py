"""What a captioner is in torch, whatever its architecture: an encoder of photos, and one step of a decoder.

The one ``step`` trains, is exported, and is compared with the export. Memory and state are tensors by name, as in
``runtime.engines.engine``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
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


class ForcedWords(NamedTuple):
    """Of given captions (N, K, T + 1) M places: those of their words and ends, or all, padding among them.

    First come the places of all first words, then those of all second ones.
    """

    log_probs: Tensor  # (M, V), of every word in a place
    target: Tensor  # (M,) int64, the word that stands there; 0 for padding
    position: Tensor  # (M,) int64, where the place is among N * K * T, photo by photo
    words: float | Tensor  # how many are not padding


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

    def advance(self, token: Tensor, state: Tensors, memory: Tensors) -> tuple[Tensor, Tensors]:
        """The part of a step that the next one waits for: what :meth:`spoken` takes (N, K, ...), and the next state."""
        log_probs, state, _ = self.step(token, state, memory)
        return log_probs, state

    def spoken(self, advanced: Tensor) -> Tensor:
        """The rest of it, for M words of any steps at once: (M, ...) -> log-probabilities (M, V)."""
        return advanced

    def forced_words(self, features: Tensor, captions: Tensor) -> ForcedWords:
        """What is thought of given captions, each step fed with their own words.

        features (N, L, D); captions (N, K, T + 1) int64, from ``<start>`` to ``<end>``, then ``<pad>`` (id 0), the
        captions of each photo ordered from long to short. What goes on only to padding is left out, unless the captions
        are on a graphics card: looking at them would be waiting for it.
        """
        memory, first = self.begin(features)
        return self.words_from(memory, first, captions)

    def words_from(self, memory: Tensors, first: Tensors, captions: Tensor) -> ForcedWords:
        """The same, of what :meth:`begin` made of the features."""
        if captions.is_cuda:
            return self._everywhere(memory, first, captions)
        device = next(iter(memory.values())).device
        count, steps = captions.shape[1], captions.shape[2] - 1
        real = captions[:, :, 1:] != 0  # (N, K, T)
        # Captions are ordered from long to short, so the columns that have ended everywhere are the last ones.
        live = [columns for columns in real.any(dim=0).sum(dim=0).tolist() if columns]  # by step
        rows = [real[:, :columns, t].flatten().nonzero()[:, 0] for t, columns in enumerate(live)]  # of N * live
        position = torch.cat(
            [(row // live[t] * count + row % live[t]) * steps + t for t, row in enumerate(rows)]
        )  # (M,) of N * K * T
        target = captions[:, :, 1:].flatten()[position]  # (M,)
        tokens, target, position, row = (
            tensor.to(device, non_blocking=True) for tensor in (captions, target, position, torch.cat(rows))
        )
        state, advanced = several(first, count), []
        for t, chosen in enumerate(torch.split(row, [len(some) for some in rows])):
            state = {name: value[:, : live[t]] for name, value in state.items()}
            after, state = self.advance(tokens[:, : live[t], t], state, memory)  # (N, live, ...)
            advanced.append(after.flatten(0, 1)[chosen])  # (m, ...)
        return ForcedWords(self.spoken(torch.cat(advanced)), target, position, len(target))

    def _everywhere(self, memory: Tensors, first: Tensors, captions: Tensor) -> ForcedWords:
        """The same of all places, in operations that are those of any captions of that shape."""
        photos, count, steps = len(captions), captions.shape[1], captions.shape[2] - 1
        state, advanced = several(first, count), []
        for t in range(steps):
            after, state = self.advance(captions[:, :, t], state, memory)  # (N, K, ...)
            advanced.append(after.flatten(0, 1))  # (N * K, ...)
        target = captions[:, :, 1:].permute(2, 0, 1).flatten()  # (T * N * K,)
        position = torch.arange(len(target), device=captions.device).view(photos * count, steps).T.flatten()
        return ForcedWords(self.spoken(torch.cat(advanced)), target, position, (target != 0).sum())

    def teacher_forced(self, features: Tensor, captions: Tensor) -> Tensor:
        """Log-probabilities of the words of given captions: (N, K, T), 0 where the next word is padding.

        Axes and order as in :meth:`forced_words`.
        """
        log_probs, target, position, _ = self.forced_words(features, captions)
        chosen = log_probs.gather(-1, target[:, None])[:, 0].masked_fill(target == 0, 0.0)  # (M,)
        photos, count, length = captions.shape
        flat = chosen.new_zeros(photos * count * (length - 1)).scatter(0, position, chosen)  # (N * K * T,)
        return flat.view(photos, count, length - 1)


def several(first: Tensors, count: int) -> Tensors:
    """The first state of ``count`` captions of each photo: (N, ...) -> (N, K, ...) each.

    What is a sum over all steps must never be bfloat16, so states are float32.
    """
    state = {}
    for name, value in first.items():
        copies = value[:, None].expand(-1, count, *value.shape[1:])  # (N, K, ...)
        state[name] = copies.float() if value.is_floating_point() else copies
    return state
