"""A convolution that trains fast on a CPU.

oneDNN's gradients of depthwise convolutions take four to six times as long in bfloat16 as in float32 where the kernel
is 5 wide or the stride is 2: without this the backward pass of EfficientNet-Lite0 spends two thirds of its time there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d``. Under bfloat16 autocast on a CPU, depthwise gradients are computed in float32."""

    def forward(self, x: Tensor) -> Tensor:
        in_bfloat16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        if self.groups == 1 or not (self.training and in_bfloat16 and x.device.type == "cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            out: Tensor = _Depthwise.apply(x.bfloat16(), self.weight, self.stride, self.padding, self.groups)  # type: ignore[no-untyped-call]
        return out


class _Depthwise(torch.autograd.Function):
    """x (N, C, H, W) bfloat16 and weight (C, 1, k, k) float32 -> (N, C, H', W') bfloat16, without a bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Any, padding: Any, groups: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options = (None, stride, padding, (1, 1), False, (0, 0), groups, (*ctx.needs_input_grad[:2], False))
        return nn.functional.conv2d(x, weight.bfloat16(), None, stride, padding, 1, groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        backward = torch.ops.aten.convolution_backward
        of_x, of_weight, _ = backward(gradients[0].float(), x.float(), weight, *ctx.options)
        return None if of_x is None else of_x.bfloat16(), of_weight, None, None, None
