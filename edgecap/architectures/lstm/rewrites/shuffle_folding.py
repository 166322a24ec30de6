"""ShuffleNetV2 without channel shuffles, for export: the same function with permuted weights.

A shuffle (Ma et al. 2018, arXiv:1807.11164) computes nothing, but becomes Reshape, Transpose, Reshape and Split in a
graph, between any two units. Here every channel is followed from the branch that makes it to the one branch that
reads it. The last convolution of each branch makes its channels in the order in which they are read, so that what a
branch reads is a concatenation of slices, and the first convolution of each branch takes its inputs in that order.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgecap.architectures.backbones.shufflenet import InvertedResidual, ShuffleNetV2


class Slice(NamedTuple):
    """Channels ``start`` to ``stop`` of a source, in the order of ``StagePlan.made``."""

    source: int
    start: int
    stop: int


class StagePlan(NamedTuple):
    """Where the channels of a stage go.

    Sources are the outputs of the branches, C/2 channels each: 0 is branch1 of the first unit, n + 1 is branch2 of
    unit n. Readers are branch2 of the units after the first, and last the end of the stage, which reads C channels.
    Orders list old positions: ``order[new] == old``.
    """

    made: list[list[int]]  # of each source, the order in which its channels are to be made
    slices: list[list[Slice]]  # of each reader, what it reads
    read: list[list[int]]  # of each reader, the order in which the slices bring it its input


def plan_stage(units: int, width: int) -> StagePlan:
    """Follow the channels through a stage of so many units, whose branches have ``width`` = C/2 channels each."""
    made: list[list[int]] = [[] for _ in range(units + 1)]
    slices, read = [], []
    for channels in _inputs_of_readers(units, width):
        order = sorted(range(len(channels)), key=channels.__getitem__)  # by source: one slice of each
        pieces = []
        for source, group in groupby((channels[old] for old in order), key=itemgetter(0)):
            start = len(made[source])
            made[source] += [index for _, index in group]
            pieces.append(Slice(source, start, len(made[source])))
        slices.append(pieces)
        read.append(order)
    return StagePlan(made, slices, read)


def _inputs_of_readers(units: int, width: int) -> list[list[tuple[int, int]]]:
    """What each reader of a stage reads in the network with shuffles, as (source, channel of it)."""
    sources = [[(source, index) for index in range(width)] for source in range(units + 1)]
    passed, inputs = sources[0], []
    for number in range(1, units + 1):
        shuffled = [channel for pair in zip(passed, sources[number], strict=True) for channel in pair]
        passed, worked = shuffled[:width], shuffled[width:]
        inputs.append(worked)
    return [*inputs[:-1], shuffled]  # nothing is split after the last unit


class FoldedStage(nn.Module):
    """A stage whose branches read slices: (B, C', H, W) -> (B, C, H/2, W/2), channels in the order of the plan."""

    def __init__(self, branches: Sequence[nn.Sequential], slices: list[list[Slice]]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)  # in the order of the sources
        self.slices = slices

    def forward(self, x: Tensor) -> Tensor:
        *readers, end = self.slices
        first, second, *later = self.branches
        sources = [first(x), second(x)]  # (B, C/2, H/2, W/2) each
        for branch, slices in zip(later, readers, strict=True):
            sources.append(branch(_concatenated(sources, slices)))
        return _concatenated(sources, end)


def _concatenated(sources: list[Tensor], slices: list[Slice]) -> Tensor:
    whole = [(0, source.shape[1]) for source in sources]
    parts = [sources[n] if (start, stop) == whole[n] else sources[n][:, start:stop] for n, start, stop in slices]
    return torch.cat(parts, dim=1)


def fold_shuffles(backbone: ShuffleNetV2) -> nn.Module:
    """The same function without shuffles: images (B, 3, S, S) -> map (B, 1024, S/32, S/32), in evaluation mode.

    The network is Ma et al.'s (2018, arXiv:1807.11164). Its shuffles are permutations of channels, and these move
    through whatever treats channels one by one, into the weights of the convolutions on either side. The result has
    weights of its own, and differs from ``backbone.eval()`` only in the order in which its convolutions sum.
    """
    folded = copy.deepcopy(backbone)
    order = list(range(_width(folded.conv1)))
    for name, stage in list(folded.named_children()):
        if name.startswith("stage"):
            units = [unit for unit in stage.children() if isinstance(unit, InvertedResidual)]
            replacement, order = _fold_stage(units, order)
            folded.add_module(name, replacement)
    _permute_inputs(folded.conv5, order)
    return folded.eval()


def _fold_stage(units: list[InvertedResidual], order: list[int]) -> tuple[FoldedStage, list[int]]:
    """A stage, its weights permuted in place, for input channels in the given order; and the order of its outputs."""
    branches = [units[0].branch1, *(unit.branch2 for unit in units)]
    plan = plan_stage(len(units), _width(units[0].branch2))
    for branch, read, made in zip(branches, [order, order, *plan.read[:-1]], plan.made, strict=True):
        _permute_inputs(branch, read)
        _permute_outputs(branch, made)
    return FoldedStage(branches, plan.slices), plan.read[-1]


def _width(layers: nn.Sequential) -> int:
    return next(layer.out_channels for layer in reversed(layers) if isinstance(layer, nn.Conv2d))


def _permute_inputs(layers: nn.Sequential, order: list[int]) -> None:
    """Take the input channels in another order: all layers follow, up to the first convolution that mixes them."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d) and layer.groups == 1:
            weight = layer.weight.detach()  # (out, in, 1, 1)
            weight.copy_(weight[:, order])
            return
        _permute_channels(layer, order)


def _permute_outputs(layers: nn.Sequential, order: list[int]) -> None:
    """Make the output channels in another order: from the last convolution on, all layers follow."""
    for layer in reversed(layers):
        _permute_channels(layer, order)
        if isinstance(layer, nn.Conv2d):
            return


def _permute_channels(layer: nn.Module, order: list[int]) -> None:
    """Permute the channels of a BatchNorm or a depthwise convolution, or the outputs of another convolution."""
    for tensor in layer.state_dict().values():
        if tensor.dim():  # all but a BatchNorm's count of batches
            tensor.copy_(tensor[order])  # (channels, ...)
