"""The convolution that trains fast on a CPU computes what torch's does."""

from __future__ import annotations

import pytest
import torch

from edgecap.architectures.backbones.convolution import Conv2d


def gradients(conv: torch.nn.Conv2d, x: torch.Tensor, bfloat16: bool) -> tuple[torch.Tensor, ...]:
    """Output, and the gradients of input and weight for a loss that weighs every output otherwise."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        out = conv(x).float()
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    (out * weights).sum().backward()
    assert x.grad is not None and conv.weight.grad is not None
    return out.detach(), x.grad, conv.weight.grad


@pytest.mark.parametrize(("kernel", "stride", "groups"), [(3, 1, 8), (3, 2, 8), (5, 1, 8), (5, 2, 8), (3, 1, 1)])
def test_gradients_under_bfloat16_are_those_of_torch(kernel: int, stride: int, groups: int) -> None:
    torch.manual_seed(0)
    conv = Conv2d(8, 8, kernel, stride, kernel // 2, groups=groups, bias=False)
    plain = torch.nn.Conv2d(8, 8, kernel, stride, kernel // 2, groups=groups, bias=False)
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, 8, 14, 14)
    for ours, exact in zip(gradients(conv, x, bfloat16=True), gradients(plain, x, bfloat16=False), strict=True):
        assert ours.shape == exact.shape and ours.dtype == exact.dtype
        assert (ours - exact).abs().max() < 0.02 * exact.abs().max()


def test_a_frozen_convolution_passes_gradients_and_gets_none() -> None:
    conv = Conv2d(8, 8, 3, groups=8, bias=False)
    conv.weight.requires_grad_(False)
    x = torch.randn(1, 8, 6, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        conv(x).float().sum().backward()
    assert x.grad is not None and x.grad.abs().max() > 0 and conv.weight.grad is None


def test_without_bfloat16_and_outside_of_training_it_is_torchs() -> None:
    conv = Conv2d(8, 8, 3, stride=2, groups=8, bias=False)
    x = torch.randn(1, 8, 6, 6)
    expected = torch.nn.functional.conv2d(x, conv.weight, stride=2, groups=8)
    assert torch.equal(conv(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        trained, evaluated = conv(x), conv.eval()(x)
    assert trained.dtype == evaluated.dtype == torch.bfloat16 and torch.equal(trained, evaluated)
