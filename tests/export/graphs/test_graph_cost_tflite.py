"""Facts of TensorFlow Lite graphs, made here from the objects of their schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecap.errors import MissingExtraError
from edgecap.export.graphs.cost import graph_facts

Array = NDArray[Any]


class Lite:
    """A TFLite file under construction, as the objects of its schema."""

    def __init__(self) -> None:
        self.schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
        self.model = self.schema.ModelT()
        self.model.version, self.model.operatorCodes, self.model.signatureDefs = 3, [], []
        self.model.buffers, self.model.subgraphs = [self.schema.BufferT()], []
        self.types = {np.dtype(np.float32): 0, np.dtype(np.float16): 1, np.dtype(np.int32): 2, np.dtype(np.int8): 9}

    def signature(self, name: str) -> None:
        """Begin a subgraph."""
        graph, definition = self.schema.SubGraphT(), self.schema.SignatureDefT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
        definition.signatureKey, definition.subgraphIndex = name, len(self.model.subgraphs)
        self.model.subgraphs.append(graph)
        self.model.signatureDefs.append(definition)

    def tensor(self, shape: tuple[int, ...], dtype: type = np.float32, buffer: int = 0) -> int:
        tensor = self.schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = list(shape), self.types[np.dtype(dtype)], buffer
        self.model.subgraphs[-1].tensors.append(tensor)
        return len(self.model.subgraphs[-1].tensors) - 1

    def store(self, values: Array) -> int:
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def constant(self, shape: tuple[int, ...], dtype: type = np.float32) -> int:
        return self.tensor(shape, dtype, self.store(np.ones(shape, dtype)))

    def operator(self, kind: str, inputs: list[int], shape: tuple[int, ...], options: Any = None) -> int:
        """Append an operator; its one output."""
        code, operator, output = self.schema.OperatorCodeT(), self.schema.OperatorT(), self.tensor(shape)
        code.builtinCode = getattr(self.schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        self.model.operatorCodes.append(code)
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self.model.operatorCodes) - 1, inputs, [output]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, type(options).__name__[:-1])
        self.model.subgraphs[-1].operators.append(operator)
        return output

    def save(self, path: Path) -> Path:
        builder = pytest.importorskip("flatbuffers").Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path


def test_a_tflite_encoder(tmp_path: Path) -> None:
    lite = Lite()
    lite.signature("encode")
    image = lite.tensor((1, 8, 8, 3))
    stem = lite.operator("CONV_2D", [image, lite.constant((4, 3, 3, 3)), lite.constant((4,))], (1, 4, 4, 4))
    weight = lite.operator("DEQUANTIZE", [lite.constant((1, 3, 3, 4), np.float16)], (1, 3, 3, 4))
    deep = lite.operator("DEPTHWISE_CONV_2D", [stem, weight, lite.constant((4,), np.int32)], (1, 4, 4, 4))
    rows = lite.operator("RESHAPE", [deep, lite.constant((3,), np.int32)], (1, 16, 4))
    features = lite.operator("FULLY_CONNECTED", [rows, lite.constant((5, 4), np.int8), -1], (1, 16, 5))
    added = lite.operator("ADD", [features, lite.constant((5,))], (1, 16, 5))
    lite.operator("ADD", [added, lite.constant(())], (1, 16, 5))
    facts = graph_facts(lite.save(tmp_path / "encoder.fp32.tflite"))
    assert facts == {
        "ops": {"ADD": 2, "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "DEQUANTIZE": 1, "FULLY_CONNECTED": 1, "RESHAPE": 1},
        "parameters": 4 * 27 + 4 + 9 * 4 + 4 + 5 * 4 + 5,
        "macs": 16 * 4 * 27 + 16 * 4 * 9 + 16 * 5 * 4,
    }


def test_a_tflite_step_is_its_first_signature(tmp_path: Path) -> None:
    lite = Lite()
    shared = lite.store(np.ones((12, 6), np.float32))
    for count in (5, 1):  # in any order
        lite.signature(f"step_{count}")
        table, weight = lite.tensor((12, 6), buffer=shared), lite.tensor((12, 6), buffer=shared)
        token = lite.tensor((1, count), np.int32)
        wrapped = lite.operator("ADD", [token, lite.constant((1,), np.int32)], (1, count))  # of positions
        embedded = lite.operator("GATHER", [table, wrapped], (1, count, 6))
        options = lite.schema.BatchMatMulOptionsT()
        options.adjX = True
        mixed = lite.operator("BATCH_MATMUL", [embedded, lite.tensor((1, count, 6))], (1, 6, 6), options)
        lite.operator("FULLY_CONNECTED", [mixed, weight], (1, 6, 12))
    facts = graph_facts(lite.save(tmp_path / "decoder_step.fp32.tflite"))
    assert facts["ops"] == {"ADD": 1, "BATCH_MATMUL": 1, "FULLY_CONNECTED": 1, "GATHER": 1}
    assert (facts["parameters"], facts["macs"]) == (12 * 6, 6 * 6 * 1 + 6 * 12 * 6)


def test_without_a_schema_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("edgecap.export.graphs.cost.importlib.import_module", absent)
    (tmp_path / "graph.tflite").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"edgecap\[tflite\]"):
        graph_facts(tmp_path / "graph.tflite")
