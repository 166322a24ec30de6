"""Where INT8 loses the signal: each layer's output in a quantized graph against the same tensor in fp32."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray
from onnx import ModelProto

from edgecap.export.compress.layer_inputs import PRODUCTS, Feeds
from edgecap.export.graphs.torch_to_onnx import graph_session
from edgecap.export.proof.parity import decibels
from edgecap.runtime.bundle.tasks import IMAGE
from edgecap.runtime.engines.graph_engine import channels_last
from edgecap.runtime.engines.litert_engine import GraphTensor

_DEQUANTIZED = "_DequantizeLinear_Output"  # how ONNX Runtime's quantizer names a tensor that went through INT8
_TFLITE_PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")


@dataclass(frozen=True)
class LayerNoise:
    """A layer by its position in the graph; ``snr_db`` counts all noise made up to its output."""

    graph: str
    layer: int
    op: str
    tensor: str
    snr_db: float | None  # 10 log10 of signal power over error power; None where the error is 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def onnx_layer_noise(fp32: Path, int8: Path, role: str, samples: Iterable[Feeds]) -> list[LayerNoise]:
    """Of each product of an ONNX graph, over samples of its inputs."""
    model, quantized = onnx.load_model(fp32), onnx.load_model(int8)
    made = {output for node in quantized.graph.node for output in node.output}
    pairs = []  # of each product: its kind, the tensor, and the tensor's name in the quantized graph
    for node in model.graph.node:
        tensor = _rectified(model, node.output[0])
        there = next((name for name in (tensor + _DEQUANTIZED, tensor) if name in made), None)
        if node.op_type in PRODUCTS and there is not None:
            pairs.append((node.op_type, tensor, there))
    sums = _NoiseSums(len(pairs))
    session = graph_session(model, {tensor for _, tensor, _ in pairs})
    other = graph_session(quantized, {name for _, _, name in pairs})
    for feeds in samples:
        wanted = session.run([tensor for _, tensor, _ in pairs], dict(feeds))
        sums.add(wanted, other.run([name for _, _, name in pairs], dict(feeds)))
    return [LayerNoise(role, n, op, tensor, sums.snr(n)) for n, (op, tensor, _) in enumerate(pairs)]


def _rectified(model: ModelProto, tensor: str) -> str:
    """The tensor after the ReLU that follows, if one does: quantizers make one operator of both."""
    readers = [node for node in model.graph.node if tensor in node.input]
    follows = len(readers) == 1 and readers[0].op_type in ("Relu", "Clip")
    return str(readers[0].output[0]) if follows else tensor


def tflite_layer_noise(fp32: Path, int8: Path, role: str, samples: Iterable[Feeds]) -> list[LayerNoise]:
    """Of each product of a TensorFlow Lite graph; ``samples`` are inputs of the ONNX graph that it was made from."""
    reference, quantized = _TracedGraph(fp32), _TracedGraph(int8)
    sums = _NoiseSums(len(reference.products))
    for sample in samples:
        feeds = reference.fitting(sample)
        sums.add(reference.run(feeds), quantized.run(feeds))
    return [LayerNoise(role, n, op, name, sums.snr(n)) for n, (op, name, _) in enumerate(reference.products)]


class _TracedGraph:
    """The first signature of a graph run by LiteRT's plain kernels, which leave every tensor readable."""

    def __init__(self, path: Path) -> None:
        self._interpreter = Interpreter(
            model_path=str(path),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        self._runner = self._interpreter.get_signature_runner(min(self._interpreter.get_signature_list()))
        names = {detail["index"]: detail["name"] for detail in self._interpreter.get_tensor_details()}
        # The only way to a graph's operators; of the first signature, which is the one of a single hypothesis.
        operators = self._interpreter._get_ops_details()
        self.products = [
            (operator["op_name"], names[operator["outputs"][0]], int(operator["outputs"][0]))
            for operator in operators
            if operator["op_name"] in _TFLITE_PRODUCTS
        ]

    def fitting(self, feeds: Feeds) -> Feeds:
        """Inputs of the ONNX graph as this one takes them: of the first photo and, of a step, the first hypothesis."""
        shapes = {name: detail["shape"] for name, detail in self._runner.get_input_details().items()}
        first = {
            name: channels_last(value[:1]) if name == IMAGE else value[tuple(map(slice, shapes[name]))]
            for name, value in feeds.items()
        }
        return first

    def run(self, feeds: Feeds) -> list[NDArray[np.float32]]:
        inputs = {name: GraphTensor.of(detail) for name, detail in self._runner.get_input_details().items()}
        self._runner(**{name: inputs[name].numbers(value) for name, value in feeds.items()})
        tensors = {detail["index"]: GraphTensor.of(detail) for detail in self._interpreter.get_tensor_details()}
        return [tensors[index].real(self._interpreter.get_tensor(index)) for _, _, index in self.products]


class _NoiseSums:
    """Power of signal and error of each of so many tensors, over samples."""

    def __init__(self, count: int) -> None:
        self._signal, self._noise = np.zeros(count), np.zeros(count)

    def add(self, wanted: list[NDArray[np.float32]], found: list[NDArray[np.float32]]) -> None:
        for n, (one, other) in enumerate(zip(wanted, found, strict=True)):
            self._signal[n] += np.mean(np.square(one, dtype=np.float64))
            self._noise[n] += np.mean(np.square(one - other, dtype=np.float64))

    def snr(self, n: int) -> float | None:
        return decibels(float(self._signal[n]), float(self._noise[n]))
