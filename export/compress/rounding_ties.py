"""Sums in INT8 that round alike on every processor.

A sum's kernels compute ``(a (qa - za) + b (qb - zb)) / c`` in float32, each in an order of its own, and round: where
that lies within a rounding error of a tie, one gives the number above and another the one below. All pairs of inputs
are known, 65,536, so the output's scale is moved by parts of a thousandth to where none of them is near a tie.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

_FACTORS = 1 + 1e-6 * np.arange(400)
_VALUES = np.arange(256.0)  # of uint8


def avoid_ties(model: ModelProto) -> None:
    """Move the output scales of a quantized encoder's sums, in place."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        inputs = [makers.get(name) for name in node.input]
        quantizers = [reader for reader in model.graph.node if reader.input and reader.input[0] == node.output[0]]
        if node.op_type != "Add" or not all(one and one.op_type == "DequantizeLinear" for one in inputs):
            continue
        if [reader.op_type for reader in quantizers] != ["QuantizeLinear"]:
            continue
        terms = [_term(*(numpy_helper.to_array(constants[name]) for name in one.input[1:3])) for one in inputs if one]
        sums = np.add.outer(*terms).reshape(-1)  # (65536,)
        scale = constants[quantizers[0].input[1]]
        value = numpy_helper.to_array(scale)
        candidates = (value.astype(np.float64) * _FACTORS).astype(np.float32)  # (400,)
        best = candidates[np.argmax([_distance(sums / np.float64(one)) for one in candidates])]
        scale.CopyFrom(numpy_helper.from_array(np.full(value.shape, best, np.float32), scale.name))


def _term(scale: NDArray[np.float32], zero_point: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What each value of an input stands for, (256,)."""
    real: NDArray[np.float64] = float(scale) * (_VALUES - int(zero_point))
    return real


def _distance(values: NDArray[np.float64]) -> float:
    """How far the value is from a tie that is nearest to one."""
    return float(np.abs(values - np.floor(values) - 0.5).min())
