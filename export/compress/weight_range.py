"""INT8 weights are from -127 to 127: two products with -128 overflow in 16 bits on processors with plain NEON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from edgecap.errors import ExportError
from edgecap.export.compress.weight_rounding import LARGEST

_TFLITE_PRODUCTS = (
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
    schema.BuiltinOperator.BATCH_MATMUL,
)


def check_weight_range(graph: Path, role: str) -> None:
    """Raise ``ExportError`` for an INT8 graph, ONNX or TensorFlow Lite by its suffix, with a weight of -128."""
    constants = _tflite_constants if graph.suffix == ".tflite" else _onnx_constants
    for name, values in constants(graph):
        if values.min(initial=0) < -LARGEST:
            raise ExportError("quantization", f"{role}.int8{graph.suffix}", f"{name} holds a weight of -128")


def _onnx_constants(graph: Path) -> Iterator[tuple[str, NDArray[np.int8]]]:
    for tensor in onnx.load_model(graph).graph.initializer:
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1:  # else a zero point
            yield tensor.name, numpy_helper.to_array(tensor)


def _tflite_constants(graph: Path) -> Iterator[tuple[str, NDArray[np.int8]]]:
    """What products multiply with; other constants, such as what is added, have all 256 values."""
    model = schema.ModelT.InitFromPackedBuf(graph.read_bytes())
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            if codes[operator.opcodeIndex] not in _TFLITE_PRODUCTS:
                continue
            tensor = subgraph.tensors[operator.inputs[1]]
            data = model.buffers[tensor.buffer].data
            if tensor.type == schema.TensorType.INT8 and data is not None:
                yield tensor.name.decode(), np.asarray(data).view(np.int8)
