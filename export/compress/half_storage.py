"""FP16 as a storage format: large weights stored half, and cast to fp32 where the graph begins.

CPUs of boards compute in fp32 all the same, and both engines cast once, when they load the graph. Small tensors stay
fp32: they are most of the error (a depthwise kernel of 288 weights, early in the network, more than all others
together) and none of the size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from edgecap.errors import ExportError
from edgecap.export.graphs.torch_to_onnx import save_graph

SMALLEST = 32_768  # values of a tensor that is stored half
_FILE_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16  # bytes, of a buffer's data in a TensorFlow Lite file
_FP16_DEQUANTIZE_VERSION = 3


def store_half(fp32: Path, fp16: Path, role: str) -> None:
    """Write an fp32 graph, ONNX or TensorFlow Lite by its suffix, with its large weights as FP16.

    Raises ``ExportError`` for weights that FP16 cannot hold.
    """
    if fp32.suffix == ".tflite":
        fp16.write_bytes(_half_tflite(fp32.read_bytes(), role))
    else:
        _half_onnx(fp32, fp16, role)


def _half_onnx(fp32: Path, fp16: Path, role: str) -> None:
    model = onnx.load_model(fp32)
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.FLOAT and values.size >= SMALLEST:
            name, half = tensor.name, f"{tensor.name}_half"
            tensor.CopyFrom(numpy_helper.from_array(_halved(values, role, name), half))
            casts.append(onnx.helper.make_node("Cast", [half], [name], f"{name}_cast", to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    save_graph(model, fp16, role, "fp16")


def _halved(values: NDArray[np.float32], role: str, name: str) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        problem = f"{name} holds {np.abs(values).max():.6g}, beyond FP16's {np.finfo(np.float16).max:.0f}"
        raise ExportError("fp16 storage", f"{role}.fp16", problem)
    return half


def _half_tflite(content: bytes, role: str) -> bytes:
    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    cast = _operator_code(model)
    halves: dict[int, int] = {}  # the FP16 buffer of an fp32 one: subgraphs share buffers
    for graph in model.subgraphs:
        large = sorted({index for operator in graph.operators for index in _large_constants(model, graph, operator)})
        casts = [_stored_half(model, graph, index, halves, cast, role) for index in large]
        graph.operators = [*casts, *graph.operators]
    # A bias may be a small operator's too, which reads it in fp32.
    read = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    for emptied in halves.keys() - read:
        model.buffers[emptied].data = None
    model.buffers = [_aligned(buffer) for buffer in model.buffers]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())


def _large_constants(model: Any, graph: Any, operator: Any) -> list[int]:
    """The fp32 constants of an operator, when one is large.

    All of them: XNNPACK (seen in LiteRT 2.1) leaves an operator to slower code that has weights stored half and a bias
    that is not.
    """
    sizes = {
        index: len(data) // 4
        for index in operator.inputs
        if index >= 0  # -1: an input that is left out
        and graph.tensors[index].type == schema.TensorType.FLOAT32
        and (data := model.buffers[graph.tensors[index].buffer].data) is not None
    }
    return list(sizes) if max(sizes.values(), default=0) >= SMALLEST else []


def _operator_code(model: Any) -> int:
    """The index of the operator that casts FP16 to fp32."""
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = _FP16_DEQUANTIZE_VERSION
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _stored_half(model: Any, graph: Any, index: int, halves: dict[int, int], cast: int, role: str) -> Any:
    """Turn a constant of ``graph`` into the result of a cast, which is returned."""
    tensor = graph.tensors[index]
    if tensor.buffer not in halves:
        values = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(np.float32)
        buffer = schema.BufferT()
        buffer.data = _halved(values, role, tensor.name.decode()).view(np.uint8)
        halves[tensor.buffer] = len(model.buffers)
        model.buffers.append(buffer)
    half = schema.TensorT()
    half.name, half.shape, half.type = tensor.name + b"_half", tensor.shape, schema.TensorType.FLOAT16
    half.buffer, tensor.buffer = halves[tensor.buffer], 0  # buffer 0 is the empty one, of tensors that are computed
    graph.tensors.append(half)
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = cast, [len(graph.tensors) - 1], [index]
    return operator


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A buffer written with the alignment that the schema demands and its generated Python code forgets."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802 - the generated code calls it so
        if self.data is None:
            return int(super().Pack(builder))
        content = np.asarray(self.data, np.uint8).tobytes()
        builder.StartVector(1, len(content), _ALIGNMENT)
        builder.head = builder.Head() - len(content)
        builder.Bytes[builder.Head() : builder.Head() + len(content)] = content
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


def _aligned(buffer: Any) -> _AlignedBuffer:
    aligned = _AlignedBuffer()
    aligned.data = buffer.data
    return aligned
