"""Weights moved to the values that INT8 can hold, each error made good by the weights that follow it.

The engines' quantizers round every weight to the nearest step. Here the error of one weight is fed into the others of
its output, as far as their inputs go together on real photos (Frantar et al. 2022, "GPTQ", arXiv:2210.17323), and what
remains of it on average goes into the bias (Nagel et al. 2019, arXiv:1906.04721). The result is an fp32 graph whose
weights lie on the INT8 grid, so that either engine's quantizer finds them unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from edgecap.errors import ExportError, brief
from edgecap.export.layer_inputs import DoubleArray, Layer, Moments, layers
from edgecap.export.recipe import ExportRecipe

LARGEST = 127  # of a symmetric int8 grid
DAMPING = 0.01  # share of the mean variance that is added to each, so that inputs that never vary can be inverted


def round_weights(
    fp32: Path, rounded: Path, role: str, moments: Mapping[str, Moments], recipe: ExportRecipe, *, per_channel: bool
) -> None:
    """Write the graph ``fp32`` with its weights on the INT8 grid. Raises ``ExportError``.

    ``moments`` are those of its layers' inputs, by the name of the weight. The grid has one step size per output
    channel, or one per weight tensor.
    """
    model = onnx.load_model(fp32)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for layer in layers(model):
        try:
            _round_layer(layer, constants, moments[layer.weight], recipe, per_channel)
        except np.linalg.LinAlgError as error:
            raise ExportError("weight rounding", f"{role}.int8", f"{layer.weight}: {brief(error)}") from error
    onnx.save_model(model, rounded)


def _round_layer(
    layer: Layer, constants: Mapping[str, TensorProto], moments: Moments, recipe: ExportRecipe, per_channel: bool
) -> None:
    weight = constants[layer.weight]
    rows = _rows(layer, numpy_helper.to_array(weight), len(moments.mean))  # (G, O, I)
    bias = constants[layer.bias] if recipe.bias_correction and layer.bias is not None else None
    # What the bias makes good, the other weights need not.
    covariance = moments.covariance(centred=bias is not None)
    if not recipe.error_feedback:  # inputs that vary apart from each other: nothing to feed into
        covariance = np.broadcast_to(np.eye(rows.shape[2]), covariance.shape)
    near = rounded_rows(rows, covariance, step_sizes(rows, per_channel=per_channel))
    _replace(weight, _unrows(layer, near, tuple(weight.dims)))
    if bias is not None:
        shift = np.einsum("goi,gi->go", rows - near, moments.mean).reshape(-1)  # (G * O,)
        _replace(bias, numpy_helper.to_array(bias) + shift)


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
    inputs = rows.shape[2]
    variance = np.diagonal(covariance, axis1=1, axis2=2)  # (G, I)
    order = np.argsort(-variance, axis=1)  # what varies most is rounded first, while others can still make up for it
    damping = DAMPING * variance.mean(1) + np.finfo(np.float32).tiny  # (G,)
    damped = covariance + damping[:, None, None] * np.eye(inputs)
    damped = np.take_along_axis(np.take_along_axis(damped, order[:, :, None], 1), order[:, None, :], 2)
    feedback = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)  # (G, I, I), upper
    original = np.take_along_axis(rows, order[:, None, :], 2)
    pending, fed = original.copy(), np.empty_like(original)
    for i in range(inputs):
        fed[:, :, i] = _on_grid(pending[:, :, i], original[:, :, i], steps[:, :, 0])
        error = (pending[:, :, i] - fed[:, :, i]) / feedback[:, None, i, i]
        pending[:, :, i + 1 :] -= error[:, :, None] * feedback[:, None, i, i + 1 :]
    back = np.argsort(order, axis=1)
    fed, nearest = np.take_along_axis(fed, back[:, None, :], 2), _on_grid(rows, rows, steps)
    better = _power(fed - rows, covariance) < _power(nearest - rows, covariance)  # (G, O)
    return np.where(better[:, :, None], fed, nearest)


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
