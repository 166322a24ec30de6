"""Operators, parameters and MACs of graphs: against torch, against arithmetic, and between precisions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic, quantize_static
from torch import nn

from edgecap.architectures.backbones.efficientnet import OUT_CHANNELS, STAGES, STEM_CHANNELS
from edgecap.architectures.registry import architecture
from edgecap.errors import ExportError
from edgecap.export.graphs.cost import graph_facts
from edgecap.export.graphs.torch_to_onnx import export_graph

if TYPE_CHECKING:
    from edgecap.architectures.lstm.network import CaptionModel

pytestmark = pytest.mark.usefixtures("one_torch_thread")

Array = NDArray[Any]


def lite0_macs(size: int) -> int:
    """Of EfficientNet-Lite0 without its classifier, from its table."""
    side = size // 2
    total, channels = side**2 * STEM_CHANNELS * 3 * 3**2, STEM_CHANNELS
    for units, kernel, first_stride, expansion, width in STAGES:
        for stride in (first_stride, *[1] * (units - 1)):
            inner = channels * expansion
            total += side**2 * channels * inner if expansion > 1 else 0
            side //= stride
            total += side**2 * inner * (kernel**2 + width)  # depthwise, then back to fewer channels
            channels = width
    return total + side**2 * channels * OUT_CHANNELS


@pytest.fixture(scope="module")
def graphs(small_model: CaptionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both graphs of the small model, fp32 and INT8."""
    folder = tmp_path_factory.mktemp("graphs")
    for spec in architecture("lstm").graphs(small_model, lambda: ()):
        export_graph(spec, folder / f"{spec.role}.fp32.onnx", 18)
    photos = iter([{"image": np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)}, None])
    reader = SimpleNamespace(get_next=lambda: next(photos))
    quantize_static(folder / "encoder.fp32.onnx", folder / "encoder.int8.onnx", reader, per_channel=True)
    quantize_dynamic(folder / "decoder_step.fp32.onnx", folder / "decoder_step.int8.onnx")
    return folder


def test_the_fp32_graphs_have_what_torch_has(graphs: Path, small_model: CaptionModel) -> None:
    dims, decoder = small_model.dims, small_model.decoder

    def parameters(*modules: nn.Module) -> int:
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    once = (decoder.key, decoder.init_h, decoder.init_c)
    # Of a BatchNorm, whose weight is folded into the convolution, only the bias is left.
    folded = sum(layer.weight.numel() for layer in small_model.modules() if isinstance(layer, nn.BatchNorm2d))
    encoder, step = (graph_facts(graphs / f"{role}.fp32.onnx") for role in ("encoder", "decoder_step"))
    assert encoder["parameters"] == parameters(small_model.encoder, *once) - folded
    assert step["parameters"] == parameters(decoder) - parameters(*once)
    locations, hidden, feature, attention = dims.locations, dims.hidden_dim, dims.feature_dim, dims.attention_dim
    projections = locations * (OUT_CHANNELS * feature + feature * attention) + 2 * feature * hidden
    assert encoder["macs"] == lite0_macs(dims.image_size) + projections
    attending = hidden * attention + locations * (attention + feature)
    gates = 4 * hidden * (dims.embedding_dim + feature + hidden)
    assert step["macs"] == attending + gates + hidden * dims.vocab_size
    assert encoder["ops"]["Conv"] == 49 and step["ops"]["MatMul"] == 7


@pytest.mark.parametrize("role", ["encoder", "decoder_step"])
def test_quantization_changes_neither_parameters_nor_macs(graphs: Path, role: str) -> None:
    fp32, int8 = (graph_facts(graphs / f"{role}.{precision}.onnx") for precision in ("fp32", "int8"))
    assert (int8["parameters"], int8["macs"]) == (fp32["parameters"], fp32["macs"])
    quantized = "DequantizeLinear" if role == "encoder" else "MatMulInteger"
    assert quantized in int8["ops"] and quantized not in fp32["ops"]


def test_lite0_at_full_size() -> None:
    assert lite0_macs(224) == 383_907_552


def onnx_facts(
    folder: Path,
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, tuple[int | str, ...]]],
    constants: Mapping[str, Array],
) -> dict[str, Any]:
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.UNDEFINED, None)]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = folder / "graph.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return graph_facts(path)


def test_operators_are_sorted_by_count_then_name(tmp_path: Path) -> None:
    kinds = ("Tanh", "Abs", "Tanh", "Neg", "Abs", "Relu")
    nodes = [helper.make_node(kind, [f"t{n}"], [f"t{n + 1}"]) for n, kind in enumerate(kinds)]
    facts = onnx_facts(tmp_path, nodes, {"t0": (TensorProto.FLOAT, (2,))}, {})
    assert list(facts["ops"].items()) == [("Abs", 2), ("Tanh", 2), ("Neg", 1), ("Relu", 1)]
    assert (facts["parameters"], facts["macs"]) == (0, 0)


def test_a_grouped_convolution_behind_dequantization(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["weight"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "b_scale"], ["bias"], axis=0),
        helper.make_node("Conv", ["x", "weight", "bias"], ["y"], group=2, strides=[2, 2]),
        helper.make_node("Add", ["y", "half"], ["z"]),  # a number: part of a formula
        helper.make_node("Reshape", ["z", "flat"], ["out"]),
    ]
    constants: dict[str, Array] = {
        "w": np.ones((6, 2, 3, 3), np.int8),
        "w_scale": np.ones(6, np.float32),
        "w_zero": np.zeros(6, np.int8),
        "b": np.ones(6, np.int32),
        "b_scale": np.ones(6, np.float32),
        "half": np.array(0.5, np.float32),
        "flat": np.array([1, -1]),
    }
    facts = onnx_facts(tmp_path, nodes, {"x": (TensorProto.FLOAT, (1, 4, 9, 9))}, constants)
    assert (facts["parameters"], facts["macs"]) == (6 * 2 * 9 + 6, 6 * 4 * 4 * (2 * 9))


def test_integer_convolutions(tmp_path: Path) -> None:
    image = {"x": (TensorProto.UINT8, (1, 4, 5, 5))}
    weight = {"w": np.ones((6, 4, 3, 3), np.int8)}
    facts = onnx_facts(tmp_path, [helper.make_node("ConvInteger", ["x", "w"], ["y"])], image, weight)
    assert (facts["parameters"], facts["macs"]) == (6 * 4 * 9, 6 * 9 * 4 * 9)
    scales = {f"s{n}": np.array(1, np.float32) for n in range(3)}
    zeros = {"z0": np.array(0, np.uint8), "z1": np.array(0, np.int8), "z2": np.array(0, np.uint8)}
    node = helper.make_node("QLinearConv", ["x", "s0", "z0", "w", "s1", "z1", "s2", "z2", "b"], ["y"])
    facts = onnx_facts(tmp_path, [node], image, {**weight, **scales, **zeros, "b": np.ones(6, np.int32)})
    assert (facts["parameters"], facts["macs"]) == (6 * 4 * 9 + 6, 6 * 9 * 4 * 9)


def test_dynamic_axes_are_one_and_shared_constants_count_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "token"], ["embedded"]),  # (N, K, 8)
        helper.make_node("MatMul", ["embedded", "w"], ["a"]),  # (N, K, 8)
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Add", ["b", "bias"], ["c"]),
        helper.make_node("Shape", ["c"], ["sizes"]),
        helper.make_node("Add", ["sizes", "more"], ["larger"]),  # positions
        helper.make_node("Expand", ["c", "larger"], ["out"]),
    ]
    constants: dict[str, Array] = {
        "table": np.ones((20, 8), np.float16),
        "w": np.ones((8, 8), np.float16),
        "bias": np.ones(8, np.float16),
        "more": np.zeros(3, np.int64),
    }
    facts = onnx_facts(tmp_path, nodes, {"token": (TensorProto.INT64, ("N", "K"))}, constants)
    assert (facts["parameters"], facts["macs"]) == (20 * 8 + 8 * 8 + 8, 2 * 8 * 8)


def test_products_of_any_side(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["y"], transA=1),  # (3, 5)' (3, 7) -> (5, 7)
        helper.make_node("DynamicQuantizeLinear", ["y"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "v", "zero"], ["out"]),  # (5, 7) (7, 2)
    ]
    constants: dict[str, Array] = {
        "w": np.ones((3, 7), np.float32),
        "b": np.ones(7, np.float32),
        "v": np.ones((7, 2), np.int8),
    }
    facts = onnx_facts(tmp_path, nodes, {"x": (TensorProto.FLOAT, (3, 5))}, constants)
    assert (facts["parameters"], facts["macs"]) == (3 * 7 + 7 + 7 * 2, 3 * 5 * 7 + 5 * 7 * 2)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("graph.onnx", b"\xff\xffno graph", "graph.onnx: "),
        ("graph.tflite", b"no graph at all", "graph.tflite: is no TFLite graph"),
        ("graph.tflite", b"\xff\xff\xff\x7fTFL3", "graph.tflite: "),
        ("graph.txt", b"", r"graph.txt: is neither .onnx nor .tflite"),
    ],
)
def test_what_is_no_graph_is_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ExportError, match=f"export failed at graph facts of {problem}"):
        graph_facts(tmp_path / name)


def test_a_shape_that_cannot_be_inferred_is_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["y"]),
        helper.make_node("MatMul", ["y", "w"], ["out"]),
    ]
    inputs = {"x": (TensorProto.FLOAT, (4, 4)), "shape": (TensorProto.INT64, (2,))}
    with pytest.raises(ExportError, match=r"graph.onnx: the shape of '(y|out)' is not known"):
        onnx_facts(tmp_path, nodes, inputs, {"w": np.ones((4, 4), np.float32)})
