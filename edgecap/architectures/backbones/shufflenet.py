"""ShuffleNetV2 1.0x without its classifier (Ma et al. 2018, arXiv:1807.11164).

Parameter names are torchvision's, so that its public weights load.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgecap.architectures.backbones.channel_shuffle import channel_shuffle, shuffled_halves
from edgecap.architectures.backbones.convolution import Conv2d

STAGES = ((4, 116), (8, 232), (4, 464))  # (units, channels) of stages 2, 3 and 4
STEM_CHANNELS, OUT_CHANNELS = 24, 1024

LEAKY_SLOPE = 0.1  # of the COCO detector's weights


def activation(name: str) -> nn.Module:
    """A new activation module, ``relu`` or ``leaky_relu`` (slope 0.1)."""
    return nn.LeakyReLU(LEAKY_SLOPE, inplace=True) if name == "leaky_relu" else nn.ReLU(inplace=True)


class InvertedResidual(nn.Module):
    """One unit: half of the channels pass, the other half is convolved; a unit of stride 2 convolves both."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, act: str) -> None:
        super().__init__()
        self.stride = stride
        branch = channels_out // 2
        self.branch1 = nn.Sequential()
        if stride == 2:
            self.branch1 = nn.Sequential(
                *_depthwise(channels_in, stride),
                *_pointwise(channels_in, branch, act),
            )
        self.branch2 = nn.Sequential(
            *_pointwise(channels_in if stride == 2 else branch, branch, act),
            *_depthwise(branch, stride),
            *_pointwise(branch, branch, act),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            passed, worked = x.chunk(2, dim=1)  # (B, C/2, H, W) each
        else:
            passed, worked = self.branch1(x), x
        return channel_shuffle(torch.cat((passed, self.branch2(worked)), dim=1))


class Stage(nn.Sequential):
    """Units one after another. While training, two halves go from one to the next, without being joined in between."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
        passed, worked = x, x
        for unit in self:
            assert isinstance(unit, InvertedResidual)
            # branch1 of a unit of stride 1 is empty
            passed, worked = shuffled_halves(unit.branch1(passed), unit.branch2(worked))
        return torch.cat((passed, worked), dim=1)


def _depthwise(channels: int, stride: int) -> tuple[nn.Module, ...]:
    conv = Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
    return conv, nn.BatchNorm2d(channels)


def _pointwise(channels_in: int, channels_out: int, act: str) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out), activation(act)


class ShuffleNetV2(nn.Module):
    """The backbone: images (B, 3, S, S) -> map (B, out_channels, S/32, S/32)."""

    def __init__(self, act: str = "relu", out_channels: int = OUT_CHANNELS) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(STEM_CHANNELS),
            activation(act),
        )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = STEM_CHANNELS
        for number, (units, width) in enumerate(STAGES, start=2):
            first = InvertedResidual(channels, width, 2, act)
            rest = [InvertedResidual(width, width, 1, act) for _ in range(units - 1)]
            self.add_module(f"stage{number}", Stage(first, *rest))
            channels = width
        self.conv5 = nn.Sequential(*_pointwise(channels, out_channels, act))

    def first_blocks(self, share: float) -> list[nn.Module]:
        """The stem and that share of the units."""
        units = [unit for stage in self.children() if isinstance(stage, Stage) for unit in stage]
        return [self.conv1, *units[: round(share * len(units))]]

    def forward(self, images: Tensor) -> Tensor:
        x = self._stem(images)  # (B, 24, 56, 56)
        x = self.get_submodule("stage2")(x)  # (B, 116, 28, 28)
        x = self.get_submodule("stage3")(x)  # (B, 232, 14, 14)
        x = self.get_submodule("stage4")(x)  # (B, 464, 7, 7)
        return self.conv5(x)  # type: ignore[no-any-return]  # (B, out_channels, 7, 7)

    def _stem(self, images: Tensor) -> Tensor:
        if not self.training:
            return self.maxpool(self.conv1(images))  # type: ignore[no-any-return]
        convolution, norm, act = self.conv1
        # The largest value stays the largest when it is rectified, and there is a quarter of them to rectify.
        return act(self.maxpool(norm(convolution(images))))  # type: ignore[no-any-return]
