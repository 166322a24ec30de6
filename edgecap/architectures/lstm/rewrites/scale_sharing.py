"""A folded ShuffleNetV2 whose branches share one int8 scale: the same function, with weights rescaled.

What meets in a concatenation must have one scale, or an engine requantizes each part of it before. Here each slice of
a branch's output is multiplied by what brings its largest value on real photos to :data:`CAP`, and the weights that
read it are divided by as much, which changes nothing after a ReLU (as Nagel et al. 2019, arXiv:1906.04721,
even out channels). Quantizers then find the same range, 0 to CAP, everywhere in a stage, if they are shown
:func:`capped` graphs on the same photos.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import onnx
import torch
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn

from edgecap.architectures.lstm.rewrites.shuffle_folding import FoldedStage

CAP = 6.0  # what a ReLU6 ends at, which every engine fuses into the convolution before it
_MARGIN = 0.02  # above the cap, so that the largest value reaches it with INT8 weights too, which may make less of it


@torch.no_grad()
def share_scales(backbone: nn.Module, photos: Iterable[Tensor]) -> bool:
    """Rescale in place what ``fold_shuffles`` made, on ``photos`` (1, 3, S, S) each; without any, nothing changes.

    Returns whether scales are shared now.
    """
    stages = [stage for stage in backbone.children() if isinstance(stage, FoldedStage)]
    largest = _largest(backbone, [branch for stage in stages for branch in stage.branches], photos)
    given: Tensor | None = None
    for stage in stages:
        made = [_scales(largest[branch], _bounds(stage, n)) for n, branch in enumerate(stage.branches)]
        *readers, end = (torch.cat([made[n][start:stop] for n, start, stop in slices]) for slices in stage.slices)
        for branch, outputs, inputs in zip(stage.branches, made, [given, given, *readers], strict=True):
            _multiply_outputs(branch, outputs)
            _divide_inputs(branch, inputs)
        given = end
    _divide_inputs(backbone.get_submodule("conv5"), given)
    return any(bool(values.any()) for values in largest.values())


def _largest(backbone: nn.Module, branches: list[nn.Module], photos: Iterable[Tensor]) -> dict[nn.Module, Tensor]:
    """The largest value of each output channel of each branch."""
    found = {branch: torch.zeros(_outputs(branch)) for branch in branches}

    def look(branch: nn.Module, _: object, output: Tensor) -> None:
        found[branch] = torch.maximum(found[branch], output.amax(dim=(0, 2, 3)))  # (C/2,)

    handles = [branch.register_forward_hook(look) for branch in branches]
    for photo in photos:
        backbone(photo)
    for handle in handles:
        handle.remove()
    return found


def _outputs(branch: nn.Module) -> int:
    return [layer.num_features for layer in branch.children() if isinstance(layer, nn.BatchNorm2d)][-1]


def _bounds(stage: FoldedStage, source: int) -> list[int]:
    """Where any slice of a source begins or ends."""
    width = max(stop for slices in stage.slices for n, _, stop in slices if n == source)
    return sorted(
        {0, width, *(edge for slices in stage.slices for n, *edges in slices if n == source for edge in edges)}
    )


def _scales(largest: Tensor, bounds: list[int]) -> Tensor:
    """A factor for each channel, the same between two bounds: of a piece that is never above zero, 1."""
    scales = torch.ones_like(largest)
    for start, stop in pairwise(bounds):
        if (top := largest[start:stop].max()) > 0:
            scales[start:stop] = CAP * (1 + _MARGIN) / top
    return scales


def _multiply_outputs(branch: nn.Module, scales: Tensor) -> None:
    last = [layer for layer in branch.children() if isinstance(layer, nn.BatchNorm2d)][-1]
    last.weight.mul_(scales)
    last.bias.mul_(scales)


def _divide_inputs(layers: nn.Module, scales: Tensor | None) -> None:
    if scales is None:  # the first stage's, of the stem
        return
    first = next(layer for layer in layers.children() if isinstance(layer, nn.Conv2d))
    first.weight.div_(scales[:, None, None, None] if first.groups > 1 else scales[:, None, None])


def capped(model: ModelProto) -> ModelProto:
    """An encoder in which what a concatenation brings together ends at CAP: every range of it is 0 to CAP.

    For graphs of shared scales only; photos beyond those that set the scales are clipped there, as INT8 would do.
    """
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    limits = [
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in (("cap_least", 0.0), ("cap_most", CAP))
    ]
    pending = [tensor for node in graph.node if node.op_type == "Concat" for tensor in node.input]
    for tensor in pending:
        node = makers[tensor]
        if node.op_type == "Slice":
            pending.append(node.input[0])
        elif node.op_type == "Relu":
            node.op_type = "Clip"
            node.input.extend(limit.name for limit in limits)
    if pending:
        graph.initializer.extend(limits)
    return onnx.shape_inference.infer_shapes(model)
