"""No INT8 weight of an exported graph is -128, in either engine's format."""

from __future__ import annotations

from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgecap.errors import ExportError
from edgecap.export.compress.weight_range import check_weight_range


def write_onnx(path: Path, weight: NDArray[np.int8]) -> Path:
    constants = [numpy_helper.from_array(weight, "kernel"), numpy_helper.from_array(np.int8(-128), "zero_point")]
    onnx.save_model(helper.make_model(helper.make_graph([], "g", [], [], constants)), path)
    return path


def write_tflite(path: Path, weight: NDArray[np.int8]) -> Path:
    tensors = []
    for name, buffer, shape in (("kernel", 1, weight.shape), ("term", 2, (1, 1)), ("activation", 0, (4, 4))):
        tensor = schema.TensorT()
        tensor.name, tensor.buffer, tensor.shape, tensor.type = name, buffer, list(shape), schema.TensorType.INT8
        tensors.append(tensor)
    buffers = [schema.BufferT() for _ in range(3)]
    buffers[1].data, buffers[2].data = weight.reshape(-1).view(np.uint8), np.array([-128], np.int8).view(np.uint8)
    subgraph, model = schema.SubGraphT(), schema.ModelT()
    subgraph.tensors, model.subgraphs, model.buffers = tensors, [subgraph], buffers
    model.operatorCodes, subgraph.operators = [], []
    for index, (kind, constant) in enumerate(
        ((schema.BuiltinOperator.FULLY_CONNECTED, 0), (schema.BuiltinOperator.ADD, 1))
    ):
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        operator.opcodeIndex, operator.inputs, operator.outputs = index, [2, constant], [2]
        model.operatorCodes.append(code)
        subgraph.operators.append(operator)
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path


@pytest.mark.parametrize(("suffix", "write"), [(".onnx", write_onnx), (".tflite", write_tflite)])
def test_a_weight_of_minus_128_fails_the_export(suffix: str, write: object, tmp_path: Path) -> None:
    assert callable(write)
    fine, bad = np.full((3, 4), -127, np.int8), np.full((3, 4), 5, np.int8)
    bad[1, 2] = -128
    check_weight_range(write(tmp_path / f"fine{suffix}", fine), "encoder")
    with pytest.raises(ExportError, match=rf"encoder\.int8\{suffix}.*kernel holds a weight of -128"):
        check_weight_range(write(tmp_path / f"bad{suffix}", bad), "encoder")
