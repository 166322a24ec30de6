"""A folded ShuffleNetV2 whose channels are multiples of 16: the same function, with channels of zeros between.

Kernels work on 8 to 32 channels at a time, and ShuffleNetV2's 58 and 116 leave them remainders that cost more than the
zeros: a fifth of the int8 encoder's time in ONNX Runtime on x86, a tenth in fp32. Also, ONNX Runtime 1.21 to 1.24
miscompute int8 products of 17 to 31 columns beyond a multiple of 32, on processors with AMX.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgecap.architectures.lstm.rewrites.shuffle_folding import FoldedStage, Slice

MULTIPLE = 16


def align_channels(backbone: nn.Module) -> nn.Module:
    """What ``shuffle_folding.fold_shuffles`` made, aligned in place from its first stage on.

    The outputs of the network, and of its stem, stay as they are.
    """
    channels = _outputs(backbone.get_submodule("conv1"))
    for stage in backbone.children():
        if isinstance(stage, FoldedStage):
            channels = _align_stage(stage, channels)
    last = backbone.get_submodule("conv5")
    assert isinstance(last, nn.Sequential) and isinstance(last[0], nn.Conv2d)
    last[0] = _convolution(last[0], channels, last[0].out_channels)
    return backbone


def aligned(channels: int) -> int:
    """The next multiple of 16."""
    return -(-channels // MULTIPLE) * MULTIPLE


def _align_stage(stage: FoldedStage, channels: int) -> int:
    """Widen the branches of a stage that is given so many channels; returns how many it gives."""
    width = _outputs(stage.branches[0])
    given = [channels, channels, *[aligned(width)] * (len(stage.branches) - 2)]
    branches = zip(stage.branches, given, strict=True)
    stage.branches = nn.ModuleList(_widened(branch, inputs) for branch, inputs in branches)
    *readers, end = stage.slices
    last = aligned(2 * width)
    stage.slices = [*(_lengthened(slices, aligned(width), width) for slices in readers), _lengthened(end, last, width)]
    return last


def _outputs(branch: nn.Module) -> int:
    convolutions = [layer for layer in branch.children() if isinstance(layer, nn.Conv2d)]
    return convolutions[-1].out_channels


def _lengthened(slices: list[Slice], channels: int, width: int) -> list[Slice]:
    """Slices of so many channels: what is missing is read behind the last one, or else from the zeros of a source.

    Their readers have weights of zero for it. Sources have ``width`` channels and then zeros.
    """
    missing = channels - sum(stop - start for _, start, stop in slices)
    source, start, stop = slices[-1]
    if stop + missing <= aligned(width):
        return [*slices[:-1], Slice(source, start, stop + missing)]
    return [*slices, Slice(0, 0, missing)]


def _widened(branch: nn.Module, channels: int) -> nn.Sequential:
    """The layers of a branch for so many input channels, and with aligned ones between and behind."""
    layers: list[nn.Module] = []
    for layer in branch.children():
        if isinstance(layer, nn.Conv2d):
            made = channels if layer.groups > 1 else aligned(layer.out_channels)
            layer, channels = _convolution(layer, channels, made), made
        elif isinstance(layer, nn.BatchNorm2d):
            layer = _norm(layer, channels)
        layers.append(layer)
    return nn.Sequential(*layers)


def _convolution(old: nn.Conv2d, inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution without bias, with weights of zero for the channels that it did not have."""
    groups = outputs if old.groups > 1 else 1
    new = nn.Conv2d(inputs, outputs, old.kernel_size, old.stride, old.padding, groups=groups, bias=False)  # type: ignore[arg-type]
    with torch.no_grad():
        new.weight.zero_()
        _corner(new.weight, old.weight).copy_(old.weight)
    return new


def _norm(old: nn.BatchNorm2d, channels: int) -> nn.BatchNorm2d:
    """A BatchNorm that leaves the channels of zeros as they are."""
    new = nn.BatchNorm2d(channels, old.eps).eval()
    for name, tensor in old.state_dict().items():
        if tensor.dim():
            _corner(new.state_dict()[name], tensor).copy_(tensor)
    return new


def _corner(whole: Tensor, part: Tensor) -> Tensor:
    return whole[tuple(slice(size) for size in part.shape)]
