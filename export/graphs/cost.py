"""What a graph costs, read from its file: operators by kind, parameters, and multiplications with accumulation."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
from onnx import TensorProto

from edgecap.errors import ExportError, MissingExtraError, brief

Shape = tuple[int, ...]
Tensor = str | int  # its name in ONNX, its number in TFLite; "" or -1 for an input that was left out

_STAGE = "graph facts"
_SCHEMAS = ("ai_edge_litert.schema_py_generated", "tensorflow.lite.python.schema_py_generated")
_MAGIC = b"TFL3"  # of a TFLite file, after its first four bytes

# The inputs of an operator where a constant is a parameter. Scales and zero points have inputs of their own.
_PARAMETERS: dict[str, tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvInteger": (1,),
    "QLinearConv": (3, 8),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
    "Gemm": (0, 1, 2),
    "Gather": (0,),  # the table of an embedding
    "Add": (0, 1),  # the bias of a matrix product, which has no input for one
    "CONV_2D": (1, 2),
    "DEPTHWISE_CONV_2D": (1, 2),
    "FULLY_CONNECTED": (1, 2),
    "BATCH_MATMUL": (0, 1),
    "GATHER": (0,),
    "EMBEDDING_LOOKUP": (1,),
    "ADD": (0, 1),
}
_WITH_INDICES = ("Gather", "Add", "GATHER", "ADD")  # which also compute with positions: int32 is no parameter there
# What lies between a constant and its reader when its values are stored in another type or order.
_PASSING = ("DequantizeLinear", "Cast", "Transpose", "Reshape", "Identity", "DEQUANTIZE", "TRANSPOSE", "RESHAPE")
_WEIGHT_TYPES = ("FLOAT", "FLOAT16", "FLOAT32", "INT8", "UINT8")
_BIAS_TYPE = "INT32"


@dataclass(frozen=True)
class _Constant:
    """A tensor whose values are in the file; tensors of one ``store`` share them."""

    store: Tensor
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class _Operator:
    """A node of either format."""

    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    transposed: bool = False  # the left side of a matrix product


@dataclass(frozen=True)
class _Graph:
    name: str
    operators: tuple[_Operator, ...]
    shapes: Mapping[Tensor, Shape]
    constants: Mapping[Tensor, _Constant]


def graph_facts(path: Path) -> dict[str, Any]:
    """``{"ops": {kind: count}, "parameters": int, "macs": int}`` of an ``.onnx`` or ``.tflite`` graph.

    MACs are those of convolutions and matrix products, for one photo and one hypothesis: dynamic axes are taken as 1,
    and of a TFLite graph the signature of a single hypothesis is counted. Parameters are the weights and biases that
    the graph holds, each once: BatchNorm that was folded into a convolution left only its bias. Raises
    :class:`ExportError`, and :class:`MissingExtraError` without a TFLite schema.
    """
    if path.suffix not in (".onnx", ".tflite"):
        raise ExportError(_STAGE, path.name, "is neither .onnx nor .tflite")
    graph = _onnx_graph(path) if path.suffix == ".onnx" else _tflite_graph(path)
    counts = Counter(operator.kind for operator in graph.operators)
    return {
        "ops": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        "parameters": sum(math.prod(constant.shape) for constant in _parameters(graph)),
        "macs": sum(_macs(graph, operator) for operator in graph.operators),
    }


def _parameters(graph: _Graph) -> Iterable[_Constant]:
    """The constants that are weights, tables or biases, each store once."""
    makers = {output: operator for operator in graph.operators for output in operator.outputs}
    found: dict[Tensor, _Constant] = {}
    for operator in graph.operators:
        allowed = _WEIGHT_TYPES if operator.kind in _WITH_INDICES else (*_WEIGHT_TYPES, _BIAS_TYPE)
        for constant in _constants_read(graph, operator, makers):
            if constant.dtype in allowed and constant.shape:  # a number without axes is part of a formula
                found[constant.store] = constant
    return found.values()


def _constants_read(graph: _Graph, operator: _Operator, makers: Mapping[Tensor, _Operator]) -> Iterator[_Constant]:
    positions = _PARAMETERS.get(operator.kind, ())
    for tensor in [operator.inputs[position] for position in positions if position < len(operator.inputs)]:
        while tensor in makers and makers[tensor].kind in _PASSING:
            tensor = makers[tensor].inputs[0]
        if tensor in graph.constants:
            yield graph.constants[tensor]


def _macs(graph: _Graph, operator: _Operator) -> int:
    """Elements of the output, times the products that are summed in each."""

    def shape(tensor: Tensor) -> Shape:
        if tensor not in graph.shapes:
            raise ExportError(_STAGE, graph.name, f"the shape of {tensor!r} is not known")
        return graph.shapes[tensor]

    match operator.kind:
        case "Conv" | "ConvInteger" | "CONV_2D":  # weights (O, I / groups, kh, kw) or (O, kh, kw, I / groups)
            summed = math.prod(shape(operator.inputs[1])[1:])
        case "QLinearConv":
            summed = math.prod(shape(operator.inputs[3])[1:])
        case "DEPTHWISE_CONV_2D":  # weights (1, kh, kw, O)
            summed = math.prod(shape(operator.inputs[1])[1:3])
        case "FULLY_CONNECTED":  # weights (O, I)
            summed = shape(operator.inputs[1])[-1]
        case "MatMul" | "MatMulInteger" | "QLinearMatMul" | "Gemm" | "BATCH_MATMUL":
            summed = shape(operator.inputs[0])[-2 if operator.transposed else -1]
        case _:
            return 0
    return summed * math.prod(shape(operator.outputs[0]))


def _onnx_graph(path: Path) -> _Graph:
    try:
        model = onnx.load_model(path)
        _take_dynamic_axes_as_one(model)
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except Exception as error:  # protobuf's and onnx's errors share no base
        raise ExportError(_STAGE, path.name, brief(error)) from error
    shapes = {value.name: _shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    constants: dict[Tensor, _Constant] = {
        tensor.name: _Constant(tensor.name, TensorProto.DataType.Name(tensor.data_type), tuple(tensor.dims))
        for tensor in graph.initializer
    }
    operators = tuple(_onnx_operator(node) for node in graph.node)
    known = {name: shape for name, shape in shapes.items() if shape is not None}
    return _Graph(path.name, operators, known | {name: held.shape for name, held in constants.items()}, constants)


def _take_dynamic_axes_as_one(model: onnx.ModelProto) -> None:
    del model.graph.value_info[:]  # inferred again, from these
    for value in (*model.graph.input, *model.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if not axis.HasField("dim_value"):
                axis.dim_value = 1


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    axes = value.type.tensor_type.shape.dim
    known = value.type.tensor_type.HasField("shape") and all(axis.HasField("dim_value") for axis in axes)
    return tuple(axis.dim_value for axis in axes) if known else None


def _onnx_operator(node: onnx.NodeProto) -> _Operator:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return _Operator(node.op_type, tuple(node.input), tuple(node.output), transposed)


def _tflite_graph(path: Path) -> _Graph:
    schema = _schema()
    content = path.read_bytes()
    if content[4:8] != _MAGIC:
        raise ExportError(_STAGE, path.name, "is no TFLite graph")
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
    except Exception as error:  # what the generated reader raises on damaged data
        raise ExportError(_STAGE, path.name, brief(error)) from error
    signatures = {signature.signatureKey: signature.subgraphIndex for signature in model.signatureDefs or ()}
    # Of several, which differ in their hypotheses, the one of a single hypothesis.
    graph = model.subgraphs[signatures[min(signatures)] if signatures else 0]
    shapes: dict[Tensor, Shape] = {
        number: tuple(map(int, _list(tensor.shape))) for number, tensor in enumerate(graph.tensors)
    }
    dtypes = _names(schema.TensorType)
    constants: dict[Tensor, _Constant] = {
        number: _Constant(tensor.buffer, dtypes[tensor.type], shapes[number])
        for number, tensor in enumerate(graph.tensors)
        if len(_list(model.buffers[tensor.buffer].data))
    }
    kinds = _kinds(schema, model.operatorCodes)
    operators = tuple(_tflite_operator(kinds[operator.opcodeIndex], operator) for operator in graph.operators)
    return _Graph(path.name, operators, shapes, constants)


def _tflite_operator(kind: str, operator: Any) -> _Operator:
    inputs, outputs = (tuple(map(int, _list(numbers))) for numbers in (operator.inputs, operator.outputs))
    return _Operator(kind, inputs, outputs, transposed=bool(getattr(operator.builtinOptions, "adjX", False)))


def _kinds(schema: ModuleType, codes: Iterable[Any]) -> list[str]:
    """The name of each operator code. Codes over 127 are in the newer of the two fields."""
    names = _names(schema.BuiltinOperator)
    return [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in codes]


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _list(values: Any) -> Any:
    """A vector of the schema: absent ones are ``None``."""
    return () if values is None else values


def _schema() -> ModuleType:
    for name in _SCHEMAS:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingExtraError("LiteRT", "tflite")
