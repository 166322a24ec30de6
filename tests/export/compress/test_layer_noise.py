"""The signal-to-noise ratio of each layer: noise that is known gives the decibels that are known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from converted import encoder_samples, graph, images, in_engine, step_samples, write_graph
from exported import needs_converter
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession, SessionOptions
from tiny_tflite import edited

from edgecap.export.compress.layer_noise import LayerNoise, onnx_layer_noise, tflite_layer_noise
from edgecap.export.compress.quantization import quantize_dynamically, quantize_statically
from edgecap.runtime.engines.saturation import EXACT_PRODUCTS

pytestmark = pytest.mark.usefixtures("one_torch_thread")

Array = NDArray[np.float32]

STEP_PRODUCTS = ["MatMul"] * 7  # query, energies, context, three of the gates, words


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def write_chain(path: Path, **factors: float) -> Path:
    """Four products, of which ReLUs follow two; each weight times a factor."""
    weights = {
        "w0": random(6, 3, 1, 1),
        "w1": random(6, 5, seed=1),
        "w2": random(5, 4, seed=2),
        "w3": random(4, 3, seed=3),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["convolved"], pads=[0] * 4, strides=[1, 1], group=1),
        helper.make_node("Relu", ["convolved"], ["rectified"]),
        helper.make_node("Flatten", ["rectified"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w1"], ["multiplied"]),
        helper.make_node("Gemm", ["multiplied", "w2"], ["general"]),
        helper.make_node("Clip", ["general", "zero"], ["clipped"]),
        helper.make_node("MatMul", ["clipped", "w3"], ["y"]),
    ]
    stored = {name: value * np.float32(factors.get(name, 1)) for name, value in weights.items()}
    stored["zero"] = np.array(0, np.float32)
    made = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    onnx.save_model(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def chain_samples() -> list[dict[str, Array]]:
    return [{"image": random(20, 3, 1, 1, seed=seed)} for seed in (7, 8)]


def test_known_noise_gives_known_decibels(tmp_path: Path) -> None:
    """A factor of 1 + e is noise of e times the signal; a layer's counts that of the layers before it."""
    fp32, noisy = write_chain(tmp_path / "fp32.onnx"), write_chain(tmp_path / "int8.onnx", w1=1.1, w2=0.5, w3=1 / 0.55)
    assert [row.to_json() for row in onnx_layer_noise(fp32, noisy, "encoder", chain_samples())] == [
        {"graph": "encoder", "layer": 0, "op": "Conv", "tensor": "rectified", "snr_db": None},
        {"graph": "encoder", "layer": 1, "op": "MatMul", "tensor": "multiplied", "snr_db": pytest.approx(20, abs=1e-4)},
        {"graph": "encoder", "layer": 2, "op": "Gemm", "tensor": "clipped", "snr_db": decibels(0.45)},
        {"graph": "encoder", "layer": 3, "op": "MatMul", "tensor": "y", "snr_db": pytest.approx(130, abs=30)},
    ]


def decibels(share: float) -> Any:
    return pytest.approx(-20 * math.log10(share), abs=1e-4)


def test_noise_is_averaged_over_samples_of_any_size(tmp_path: Path) -> None:
    fp32, noisy = write_chain(tmp_path / "fp32.onnx"), write_chain(tmp_path / "int8.onnx", w0=1.5)
    zeros = {"image": np.zeros((3, 3, 1, 1), np.float32)}  # no signal, no noise
    for row in onnx_layer_noise(fp32, noisy, "encoder", [zeros, *chain_samples(), zeros]):
        assert row.snr_db == decibels(0.5)


def test_a_layer_without_its_tensor_in_the_quantized_graph_is_left_out(tmp_path: Path) -> None:
    fp32 = write_chain(tmp_path / "fp32.onnx")
    model = onnx.load_model(fp32)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["fused" if name == "multiplied" else name for name in names]
    onnx.save_model(model, tmp_path / "int8.onnx")
    rows = onnx_layer_noise(fp32, tmp_path / "int8.onnx", "encoder", chain_samples())
    assert [row.tensor for row in rows] == ["rectified", "clipped", "y"]


def test_layers_of_a_quantized_onnx_encoder(tmp_path: Path) -> None:
    """The tensors of the quantized graph are those after quantization, found here by hand."""
    fp32, rounded = (write_graph(tmp_path, "plus", f"encoder.{name}.onnx") for name in ("fp32", "rounded"))
    int8 = tmp_path / "encoder.int8.onnx"
    quantize_statically(rounded, int8, "encoder", encoder_samples(), "minmax", steps={})
    rows = onnx_layer_noise(fp32, int8, "encoder", encoder_samples())
    products = [node for node in onnx.load_model(fp32).graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    assert [row.op for row in rows] == [node.op_type for node in products]
    assert [row.layer for row in rows] == list(range(len(rows)))
    assert {row.graph for row in rows} == {"encoder"}
    assert next(row.tensor for row in rows if row.op == "MatMul") == "memory.features"
    assert all(row.snr_db is not None for row in rows)
    assert float(rows[0].snr_db or 0) > 30 > float(rows[-1].snr_db or 99) > 5

    inner = rows[3]
    shown = onnx.load_model(fp32), onnx.load_model(int8)
    names = inner.tensor, f"{inner.tensor}_DequantizeLinear_Output"
    found = []
    for model, name in zip(shown, names, strict=True):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        options = SessionOptions()
        options.add_session_config_entry(*EXACT_PRODUCTS)  # without VNNI sums would saturate
        session = InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found.append(np.concatenate([session.run([name], feeds)[0] for feeds in encoder_samples()]))
    assert inner.snr_db == pytest.approx(snr(*found), abs=0.01)


def snr(wanted: Array, found: Array) -> float:
    return float(10 * np.log10(np.square(wanted).mean() / np.square(wanted - found).mean()))


def test_layers_of_a_quantized_onnx_step(tmp_path: Path) -> None:
    fp32, rounded = (write_graph(tmp_path, "plus", f"decoder_step.{name}.onnx") for name in ("fp32", "rounded"))
    quantize_dynamically(rounded, tmp_path / "int8.onnx", "decoder_step", steps={})
    rows = onnx_layer_noise(fp32, tmp_path / "int8.onnx", "decoder_step", step_samples("plus"))
    assert [row.op for row in rows] == STEP_PRODUCTS
    assert all(row.snr_db is not None and 30 < row.snr_db < 100 for row in rows), rows


@needs_converter
class TestTFLite:
    """The same of graphs for TensorFlow Lite."""

    @pytest.mark.parametrize("role", ["encoder", "decoder_step"])
    def test_a_graph_has_no_noise_against_itself(self, role: str, tmp_path: Path) -> None:
        path = write_graph(tmp_path, "plus", f"{role}.fp32.tflite")
        rows = tflite_layer_noise(path, path, role, samples(role))
        assert [row.layer for row in rows] == list(range(len(rows)))
        assert {row.graph for row in rows} == {role} and {row.snr_db for row in rows} == {None}
        kinds = {"encoder": {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}}
        assert {row.op for row in rows} == kinds.get(role, {"FULLY_CONNECTED", "BATCH_MATMUL"})
        assert len({row.tensor for row in rows}) == len(rows) >= len(STEP_PRODUCTS)

    def test_known_noise_gives_known_decibels(self, tmp_path: Path) -> None:
        fp32, noisy = write_graph(tmp_path, "plus", "decoder_step.fp32.tflite"), tmp_path / "int8.tflite"
        noisy.write_bytes(edited(fp32.read_bytes(), amplify_first_product))
        rows = tflite_layer_noise(fp32, noisy, "decoder_step", step_samples("plus"))
        assert rows[0].op == "FULLY_CONNECTED" and rows[0].snr_db == decibels(0.25)
        assert None in [row.snr_db for row in rows]  # of products that read the same input, and not this product

    def test_int8_layers_end_in_what_the_engine_gives(self, tmp_path: Path) -> None:
        """Up to the rounding of faster code, which adds up over the layers."""
        fp32, int8 = (write_graph(tmp_path, "plus", f"encoder.{name}.tflite") for name in ("fp32", "int8"))
        rows = tflite_layer_noise(fp32, int8, "encoder", encoder_samples())
        step = graph("plus", "decoder_step.fp32.tflite")
        one, other = (in_engine("tflite", path.read_bytes(), step) for path in (fp32, int8))
        photos = np.concatenate(images(8))
        wanted, found = one.encode(photos), other.encode(photos)
        features, keys, *states = (row.snr_db for row in rows if row.op == "FULLY_CONNECTED")
        assert features == pytest.approx(snr(wanted.memory["features"], found.memory["features"]), abs=1.5)
        assert keys == pytest.approx(snr(wanted.memory["keys"], found.memory["keys"]), abs=1.5)
        assert len(states) == 2
        assert float(rows[0].snr_db or 0) > 30 > float(rows[-1].snr_db or 99) > 5

    def test_int8_layers_of_a_step(self, tmp_path: Path) -> None:
        fp32, int8 = (write_graph(tmp_path, "plus", f"decoder_step.{name}.tflite") for name in ("fp32", "int8"))
        rows = tflite_layer_noise(fp32, int8, "decoder_step", step_samples("plus"))
        assert [row.op for row in rows].count("FULLY_CONNECTED") == 6
        assert all(row.snr_db is not None and 30 < row.snr_db < 100 for row in rows), rows


def samples(role: str) -> Any:
    return encoder_samples() if role == "encoder" else step_samples("plus")


def amplify_first_product(model: Any) -> None:
    """Multiply the weights of the first operator of the first signature by 1.25."""
    first = model.subgraphs[0]
    weight = model.buffers[first.tensors[first.operators[0].inputs[1]].buffer]
    weight.data = (weight.data.view(np.float32) * np.float32(1.25)).view(np.uint8)


def test_a_row_is_what_eval_json_keeps() -> None:
    row = LayerNoise("decoder_step", 2, "MatMul", "attention", None)
    assert row.to_json() == {"graph": "decoder_step", "layer": 2, "op": "MatMul", "tensor": "attention", "snr_db": None}
