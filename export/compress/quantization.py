"""INT8 graphs for ONNX Runtime: with ranges that were measured, or quantized as they come."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from edgecap.errors import EdgecapError, ExportError, brief
from edgecap.export.compress.layer_inputs import DoubleArray, Feeds
from edgecap.export.compress.rounding_ties import avoid_ties
from edgecap.export.graphs.torch_to_onnx import save_graph
from edgecap.runtime.bundle.tasks import IMAGE, RGB
from edgecap.runtime.engines.saturation import can_saturate

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


class SampleReader(CalibrationDataReader):  # type: ignore[misc]
    """Inputs of a graph, to measure ranges on."""

    def __init__(self, samples: Iterable[Feeds]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        feeds = next(self._samples, None)
        return None if feeds is None else dict(feeds)


def quantize_statically(
    fp32: Path, int8: Path, role: str, samples: Iterable[Feeds], method: str, steps: Mapping[str, DoubleArray]
) -> None:
    """Quantize-dequantize pairs with ranges measured on ``samples``. Raises ``ExportError``.

    Weights per channel, with these ``steps`` (O,) by weight, activations unsigned: on x86 these cost ONNX Runtime half
    of what signed ones do.
    """
    reader = SampleReader(samples)
    source = _with_four_image_channels(onnx.load_model(fp32))

    def quantize() -> None:
        quantize_static(
            source,
            int8,
            reader,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=METHODS[method],
            extra_options={"TensorQuantOverrides": _overrides(source, steps)},
        )

    _quantized(quantize, int8, role)


def _with_four_image_channels(model: ModelProto) -> ModelProto:
    """An encoder with a channel of zeros beside red, green and blue, where one convolution takes the image.

    ONNX Runtime's int8 convolutions take channels by fours; others go the slow way over a matrix of all patches.
    """
    graph = model.graph
    readers = [(i, node) for i, node in enumerate(graph.node) if IMAGE in node.input]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    if len(readers) != 1 or readers[0][1].op_type != "Conv" or readers[0][1].input[1] not in constants:
        return onnx.shape_inference.infer_shapes(model)
    position, first = readers[0]
    weight = constants[first.input[1]]
    values = numpy_helper.to_array(weight)  # (out, 3, k, k)
    if values.shape[1] != RGB:
        return onnx.shape_inference.infer_shapes(model)
    weight.CopyFrom(numpy_helper.from_array(np.pad(values, ((0, 0), (0, 1), (0, 0), (0, 0))), weight.name))
    graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 1, 0, 0], np.int64), "image_pads"))
    graph.node.insert(position, onnx.helper.make_node("Pad", [first.input[0], "image_pads"], ["image_padded"]))
    first.input[0] = "image_padded"
    return onnx.shape_inference.infer_shapes(model)


def quantize_dynamically(fp32: Path, int8: Path, role: str, steps: Mapping[str, DoubleArray]) -> None:
    """INT8 matrix products of what is quantized as it comes, and an int8 embedding table. Raises ``ExportError``.

    ``steps`` (O,) are those of the weights of the products, by name.

    A product of one output column, as that of attention energies, stays: quantizing it saves nothing and moves it.
    """
    model = onnx.load_model(fp32)
    columns = {tensor.name: tensor.dims[-1] for tensor in model.graph.initializer if tensor.dims}
    narrow = [node.name for node in model.graph.node if node.op_type == "MatMul" and columns.get(node.input[1]) == 1]

    def quantize() -> None:
        quantize_dynamic(
            fp32,
            int8,
            op_types_to_quantize=["MatMul", "Gather"],
            nodes_to_exclude=narrow,
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "TensorQuantOverrides": _overrides(model, steps)},
        )

    _quantized(quantize, int8, role)


def _overrides(model: ModelProto, steps: Mapping[str, DoubleArray]) -> dict[str, list[dict[str, Any]]]:
    """What tells the quantizers the step sizes of weights, which they would else derive from each output's largest."""
    constants = {tensor.name for tensor in model.graph.initializer}
    axes = {node.input[1]: 0 if _outputs_first(node) else 1 for node in model.graph.node if len(node.input) > 1}
    zero = np.int8(0)
    return {
        name: [{"axis": axes[name], "scale": np.float32(step), "zero_point": zero} for step in steps[name]]
        for name in steps
        if name in constants
    }


def _outputs_first(node: NodeProto) -> bool:
    """Whether the first axis of a product's weight is that of its outputs."""
    return node.op_type == "Conv" or any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _quantized(quantize: Callable[[], None], int8: Path, role: str) -> None:
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # its advice on preprocessing goes to the root logger
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the calibrators tell of themselves on stdout
            quantize()
    except EdgecapError:  # a calibration photo that cannot be read
        raise
    except (ValueError, RuntimeError, OSError) as error:
        raise ExportError("quantization", f"{role}.int8.onnx", brief(error)) from error
    finally:
        logger.setLevel(level)
    model = onnx.load_model(int8)
    avoid_ties(model)
    save_graph(model, int8, role, "int8", safe=not can_saturate(model.SerializeToString()))
