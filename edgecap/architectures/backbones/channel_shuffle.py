"""ShuffleNet's channel shuffle, and the two halves that its next unit wants, in one pass over memory.

By way of concatenation, transposition and division every channel is copied three times forward and again backward,
which is a good part of a training step on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def channel_shuffle(x: Tensor) -> Tensor:
    """Interleave the two halves of the channels: (B, C, H, W) -> (B, C, H, W)."""
    batch, channels, height, width = x.shape
    x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2)  # (B, C/2, 2, H, W)
    return x.reshape(batch, channels, height, width)


def shuffled_halves(passed: Tensor, worked: Tensor) -> tuple[Tensor, Tensor]:
    """The halves of ``channel_shuffle`` of both, joined: (B, C/2, H, W) twice -> (B, C/2, H, W) twice, channels last.

    C/2 is even.
    """
    halves: tuple[Tensor, Tensor] = _ShuffledHalves.apply(passed, worked)  # type: ignore[no-untyped-call]
    return halves


class _ShuffledHalves(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, passed: Tensor, worked: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (_pairs(torch.empty_like(passed, memory_format=torch.channels_last)) for _ in range(2))
        for place, source in enumerate((passed, worked)):
            quarters = source.permute(0, 2, 3, 1).chunk(2, dim=3)  # (B, H, W, C/4) each
            first[..., place], second[..., place] = quarters
        return _map(first), _map(second)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (_pairs(gradient.contiguous(memory_format=torch.channels_last)) for gradient in gradients)
        of_both = []
        for place in range(2):
            of_one = torch.empty_like(gradients[0], memory_format=torch.channels_last)
            quarters = of_one.permute(0, 2, 3, 1).chunk(2, dim=3)  # (B, H, W, C/4) each
            quarters[0].copy_(first[..., place])
            quarters[1].copy_(second[..., place])
            of_both.append(of_one)
        return of_both[0], of_both[1]


def _pairs(x: Tensor) -> Tensor:
    """A view of neighbouring channels: (B, C/2, H, W), channels last -> (B, H, W, C/4, 2)."""
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).view(batch, height, width, channels // 2, 2)


def _map(pairs: Tensor) -> Tensor:
    return pairs.flatten(3).permute(0, 3, 1, 2)
