"""Weights moved to the values that INT8 can hold, each error made good by the weights that follow it.

The engines' quantizers round every weight to the nearest step. Here the error of one weight is fed into the others of
its output, as far as their inputs go together on real photos (Frantar et al. 2022, "GPTQ", arXiv:2210.17323), and what
remains of it on average goes into the bias (Nagel et al. 2019, arXiv:1906.04721). The result is an fp32 graph whose
weights lie on the INT8 grid, so that either engine's quantizer finds them unchanged. For ONNX Runtime neighbouring
weights are kept from saturating, with step sizes that its quantizer is then told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from edgecap.errors import ExportError, brief
from edgecap.export.compress.layer_inputs import DoubleArray, Layer, Moments, layers
from edgecap.export.variant import Compression
from edgecap.runtime.engines.saturation import PAIR_LIMIT

LARGEST = 127  # of a symmetric int8 grid
# Of the step that a quantizer would choose: where pairs of large weights must not saturate, a larger one may be better.
STEP_FACTORS = (1.0, 1.08, 1.17, 1.28, 1.42, 1.6, 1.8)
BLOCK = 64  # inputs whose errors go into all that follow them at once
DAMPING = 0.01  # share of the mean variance that is added to each, so that inputs that never vary can be inverted


def round_weights(
    fp32: Path,
    rounded: Path,
    role: str,
    moments: Mapping[str, Moments],
    compression: Compression,
    *,
    per_channel: bool,
    pair_limit: bool = False,
) -> dict[str, DoubleArray]:
    """Write the graph ``fp32`` with its weights on the INT8 grid; returns the step sizes (G * O,) of each weight.

    ``moments`` are those of its layers' inputs, by the name of the weight. The grid has one step size per output
    channel, or one per weight tensor. With ``pair_limit`` no two neighbouring weights can saturate
    (:mod:`edgecap.runtime.engines.saturation`); some steps are larger then than a quantizer would find by itself.
    Raises ``ExportError``.
    """
    model = onnx.load_model(fp32)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    steps = {}
    for layer in layers(model):
        try:
            steps[layer.weight] = _round_layer(
                layer, constants, moments[layer.weight], compression, per_channel, pair_limit
            )
        except np.linalg.LinAlgError as error:
            raise ExportError("weight rounding", f"{role}.int8", f"{layer.weight}: {brief(error)}") from error
    onnx.save_model(model, rounded)
    return steps


def _round_layer(
    layer: Layer,
    constants: Mapping[str, TensorProto],
    moments: Moments,
    compression: Compression,
    per_channel: bool,
    pair_limit: bool,
) -> DoubleArray:
    """Step sizes (G * O,)."""
    weight = constants[layer.weight]
    rows = _rows(layer, numpy_helper.to_array(weight), len(moments.mean))  # (G, O, I)
    bias = constants[layer.bias] if compression.bias_correction and layer.bias is not None else None
    # What the bias makes good, the other weights need not.
    covariance = moments.covariance(centred=bias is not None)
    if not compression.error_feedback:  # inputs that vary apart from each other: nothing to feed into
        covariance = np.broadcast_to(np.eye(rows.shape[2]), covariance.shape)
    steps = step_sizes(rows, per_channel=per_channel)
    if pair_limit and len(rows) == 1:  # kernels for depthwise convolutions do not add before they widen
        neighbours = _neighbours(rows.shape[2], int(np.prod(weight.dims[2:])))
        near, steps = unsaturated_rows(rows, covariance, steps, neighbours)
    else:
        near = rounded_rows(rows, covariance, steps)
    _replace(weight, _unrows(layer, near, tuple(weight.dims)))
    if bias is not None:
        shift = np.einsum("goi,gi->go", rows - near, moments.mean).reshape(-1)  # (G * O,)
        _replace(bias, numpy_helper.to_array(bias) + shift)
    return steps.reshape(-1)


def step_sizes(rows: DoubleArray, *, per_channel: bool) -> DoubleArray:
    """Of the grid for weights (G, O, I), as the engines choose them: (G, O, 1)."""
    largest = np.abs(rows).max(axis=2, keepdims=True)  # (G, O, 1)
    steps: DoubleArray = (largest if per_channel else np.full_like(largest, largest.max())) / LARGEST
    return np.maximum(steps, np.finfo(np.float32).tiny)


def rounded_rows(rows: DoubleArray, covariance: DoubleArray, steps: DoubleArray) -> DoubleArray:
    """Weights (G, O, I) on the grid with steps (G, O, 1), near in what they make of their inputs.

    ``covariance`` is (G, I, I), of these inputs. An output that feedback makes worse, as may happen to one of few
    inputs, is rounded to nearest.
    """
    fed, nearest = _Feedback.of(covariance).rounded(rows, steps), _on_grid(rows, rows, steps)
    better = _power(fed - rows, covariance) < _power(nearest - rows, covariance)  # (G, O)
    return np.where(better[:, :, None], fed, nearest)


def unsaturated_rows(
    rows: DoubleArray, covariance: DoubleArray, steps: DoubleArray, neighbours: NDArray[np.intp]
) -> tuple[DoubleArray, DoubleArray]:
    """As :func:`rounded_rows`, with no pair beyond the limit, and the steps that are best for it, (G, O, 1).

    ``neighbours`` (I,) has the index of each input's neighbour, or I for none. A larger step leaves fewer pairs beyond
    the limit, at twice the size none; each output has the one whose errors are smallest.
    """
    feedback = _Feedback.of(covariance)
    # To nearest at twice the step: what is there when feedback makes an output worse.
    near, best = _on_grid(rows, rows, 2 * steps), 2 * steps
    power = _power(near - rows, covariance)  # (G, O)
    for factor in STEP_FACTORS:
        fed = feedback.rounded(rows, factor * steps, neighbours)
        found = _power(fed - rows, covariance)
        better = (found < power)[:, :, None]  # (G, O, 1)
        near, best = np.where(better, fed, near), np.where(better, factor * steps, best)
        power = np.minimum(found, power)
    return near, best


def _neighbours(inputs: int, positions: int) -> NDArray[np.intp]:
    """Of each of the inputs, channel by channel with the kernel's positions within, the one of the other channel."""
    index = np.arange(inputs)
    other = (index // positions ^ 1) * positions + index % positions
    return np.where(other < inputs, other, inputs)


@dataclass(frozen=True)
class _Feedback:
    """How the error of each input's weight goes into those that are rounded after it."""

    order: NDArray[np.intp]  # (G, I): what varies most is rounded first, while others can still make up for it
    factors: DoubleArray  # (G, I, I), upper

    @classmethod
    def of(cls, covariance: DoubleArray) -> _Feedback:
        variance = np.diagonal(covariance, axis1=1, axis2=2)  # (G, I)
        order = np.argsort(-variance, axis=1)
        damping = DAMPING * variance.mean(1) + np.finfo(np.float32).tiny  # (G,)
        damped = covariance + damping[:, None, None] * np.eye(covariance.shape[1])
        damped = np.take_along_axis(np.take_along_axis(damped, order[:, :, None], 1), order[:, None, :], 2)
        return cls(order, np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1))

    def rounded(self, rows: DoubleArray, steps: DoubleArray, neighbours: NDArray[np.intp] | None = None) -> DoubleArray:
        """Weights (G, O, I) on the grid with steps (G, O, 1); with ``neighbours`` none beyond the limit of pairs."""
        groups, outputs, inputs = rows.shape
        original = np.take_along_axis(rows, self.order[:, None, :], 2)
        pending, group = original.copy(), np.arange(groups)
        fed = np.zeros((groups, outputs, inputs + 1))  # in the order of the inputs; the last stands for no neighbour
        for start in range(0, inputs, BLOCK):
            stop = min(start + BLOCK, inputs)
            errors = np.zeros((groups, outputs, stop - start))
            for i in range(start, stop):
                place = self.order[:, i]  # (G,)
                if neighbours is None:
                    value = _on_grid(pending[:, :, i], original[:, :, i], steps[:, :, 0])  # (G, O)
                else:
                    value = _beside(fed[group, :, neighbours[place]], pending[:, :, i], steps[:, :, 0])
                fed[group, :, place] = value
                error = (pending[:, :, i] - value) / self.factors[:, None, i, i]
                pending[:, :, i + 1 : stop] -= error[:, :, None] * self.factors[:, None, i, i + 1 : stop]
                errors[:, :, i - start] = error
            pending[:, :, stop:] -= errors @ self.factors[:, start:stop, stop:]  # of a block at once, which is faster
        found: DoubleArray = fed[:, :, :inputs]
        return found


def _beside(other: DoubleArray, wanted: DoubleArray, steps: DoubleArray) -> DoubleArray:
    """The nearest values that can be held beside neighbours, which are 0 until they are rounded."""
    taken = np.rint(other / steps)
    most = np.minimum(LARGEST, PAIR_LIMIT - np.maximum(taken, 0))
    least = np.maximum(-LARGEST, -PAIR_LIMIT - np.minimum(taken, 0))
    held: DoubleArray = np.clip(np.rint(wanted / steps), least, most) * steps
    return held


def _on_grid(wanted: DoubleArray, original: DoubleArray, steps: DoubleArray) -> DoubleArray:
    """The nearest values that can be held."""
    nearest = np.clip(np.rint(wanted / steps), -LARGEST, LARGEST) * steps
    # A weight of full size keeps its value: from it the quantizers derive the same step again.
    return np.where(np.abs(original) >= steps * (LARGEST - 1e-3), original, nearest)


def _power(errors: DoubleArray, covariance: DoubleArray) -> DoubleArray:
    """What errors (G, O, I) of weights make of inputs with this covariance, squared and averaged: (G, O)."""
    power: DoubleArray = (errors @ covariance * errors).sum(2)
    return power


def _rows(layer: Layer, weight: NDArray[np.float32], groups: int) -> DoubleArray:
    """A layer's weight as (G, O, I): what each output of each group multiplies its inputs with."""
    if layer.node.op_type != "Conv" and not _transposed(layer):
        weight = weight.T
    return weight.astype(np.float64).reshape(groups, len(weight) // groups, -1)


def _unrows(layer: Layer, rows: DoubleArray, shape: tuple[int, ...]) -> DoubleArray:
    """Inverse of :func:`_rows`."""
    weight: DoubleArray = rows[0].T if layer.node.op_type != "Conv" and not _transposed(layer) else rows.reshape(shape)
    return weight


def _transposed(layer: Layer) -> bool:
    """Whether the weight of a matrix product is stored as (O, I)."""
    return any(attribute.name == "transB" and attribute.i for attribute in layer.node.attribute)


def _replace(tensor: TensorProto, value: NDArray[np.float64]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), tensor.name))
