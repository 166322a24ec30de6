"""What the layers of an ONNX graph multiply with their weights, as moments over sample inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from edgecap.export.graphs.torch_to_onnx import graph_session

PRODUCTS = ("Conv", "MatMul", "Gemm")

Feeds = Mapping[str, NDArray[Any]]
DoubleArray = NDArray[np.float64]


@dataclass
class Moments:
    """Sums over all positions of what a layer multiplies: G groups of I inputs each, G = 1 but for convolutions."""

    count: int
    first: DoubleArray  # (G, I)
    second: DoubleArray  # (G, I, I)

    @property
    def mean(self) -> DoubleArray:
        """(G, I)"""
        return self.first / self.count

    def covariance(self, *, centred: bool) -> DoubleArray:
        """(G, I, I), about the mean or about zero."""
        about_zero: DoubleArray = self.second / self.count
        if not centred:
            return about_zero
        # What varies less than its own precision is taken to vary that much: the difference is rounding errors there.
        precision = np.finfo(np.float32).eps * np.eye(about_zero.shape[1])
        return about_zero * (1 + precision) - self.mean[:, :, None] * self.mean[:, None, :]


@dataclass(frozen=True)
class Layer:
    """A product with a constant weight; ``weight`` and ``bias`` are names of initializers."""

    node: NodeProto
    weight: str
    bias: str | None  # what is added to the product; several layers of one sum share it


def layers(model: ModelProto) -> list[Layer]:
    """The products with constant weights, but for those of one output, which are not quantized."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = [node for node in graph.node if node.op_type in PRODUCTS and node.input[1] in constants]
    return [
        Layer(node, node.input[1], node.input[2] if len(node.input) > 2 else _addend(model, node.output[0]))
        for node in found
        if not (node.op_type == "MatMul" and constants[node.input[1]].dims[-1] == 1)
    ]


def _addend(model: ModelProto, product: str) -> str | None:
    """The constant vector in the sum that a product is part of."""
    sums = {node.output[0]: node for node in model.graph.node if node.op_type == "Add"}
    vectors = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 1}

    def terms(tensor: str) -> list[str]:
        return [term for part in sums[tensor].input for term in terms(part)] if tensor in sums else [tensor]

    # Sums stand in topological order: the last one that holds the product holds its whole sum.
    whole = next((tensor for tensor in reversed(sums) if product in terms(tensor)), product)
    return next((term for term in terms(whole) if term in vectors), None)


def input_moments(path: Path, samples: Iterable[Feeds]) -> dict[str, Moments]:
    """The moments of every layer's inputs over the samples, inputs of the fp32 graph, by the name of its weight."""
    model = onnx.load_model(path)
    found = layers(model)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    session = graph_session(model, {layer.node.input[0] for layer in found})
    wanted = [tensor.name for tensor in session.get_outputs()]
    moments: dict[str, Moments] = {}
    for feeds in samples:
        tensors = {**feeds, **dict(zip(wanted, session.run(wanted, dict(feeds)), strict=True))}
        for layer in found:
            inputs = _inputs(layer.node, tensors[layer.node.input[0]], weights[layer.weight].shape)  # (G, P, I)
            first, second = inputs.sum(1), np.matmul(inputs.transpose(0, 2, 1), inputs)
            sums = moments.setdefault(layer.weight, Moments(0, np.zeros_like(first), np.zeros_like(second)))
            sums.count += inputs.shape[1]
            sums.first += first
            sums.second += second
    return moments


def _inputs(node: NodeProto, tensor: NDArray[np.float32], weight_shape: tuple[int, ...]) -> DoubleArray:
    """What a layer multiplies at each of P positions, (G, P, I). In double, as most of their squares may cancel."""
    if node.op_type != "Conv":
        return tensor.reshape(1, -1, tensor.shape[-1]).astype(np.float64)
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    top, left, bottom, right = attributes["pads"]
    stride, groups, kernel = attributes["strides"][0], attributes["group"], weight_shape[2]
    image = np.pad(tensor[0], ((0, 0), (top, bottom), (left, right)))  # (C, H, W)
    windows = sliding_window_view(image, (kernel, kernel), axis=(1, 2))  # type: ignore[call-overload]
    windows = windows[:, ::stride, ::stride]  # (C, h, w, k, k)
    channels, height, width = windows.shape[:3]
    grouped = windows.reshape(groups, channels // groups, height * width, kernel * kernel)  # (G, C / G, P, k * k)
    return np.ascontiguousarray(grouped.transpose(0, 2, 1, 3), np.float64).reshape(groups, height * width, -1)
