"""INT8 sums whose results no processor's order of operations decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from edgecap.export.compress.rounding_ties import avoid_ties

Values = NDArray[np.float64]


def quantized_sum(a: float, b: float, c: float, *, reader: str = "QuantizeLinear") -> ModelProto:
    """``y``, the sum of two inputs of uint8 in steps of ``c``, as the quantizer writes it."""
    scales, zeros = {"a": a, "b": b, "c": c}, {"a": 128, "b": 3, "c": 120}
    constants = [numpy_helper.from_array(np.float32(value), f"{name}_scale") for name, value in scales.items()]
    constants += [numpy_helper.from_array(np.uint8(value), f"{name}_zero") for name, value in zeros.items()]
    nodes = [
        helper.make_node("DequantizeLinear", ["qa", "a_scale", "a_zero"], ["a"]),
        helper.make_node("DequantizeLinear", ["qb", "b_scale", "b_zero"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node(reader, ["sum", "c_scale", "c_zero"] if reader == "QuantizeLinear" else ["sum"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    inputs = [value(name, TensorProto.UINT8, [256, 256]) for name in ("qa", "qb")]
    kind = TensorProto.UINT8 if reader == "QuantizeLinear" else TensorProto.FLOAT
    graph = helper.make_graph(nodes, "sum", inputs, [value("y", kind, [256, 256])], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def scale_of(model: ModelProto, name: str = "c_scale") -> float:
    return float(next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name))


def all_sums(model: ModelProto) -> Values:
    """Of every pair of inputs, in the output's steps, (256, 256)."""
    q = np.arange(256.0)
    real = np.add.outer(scale_of(model, "a_scale") * (q - 128), scale_of(model, "b_scale") * (q - 3))
    steps: Values = real / scale_of(model)
    return steps


def distance(values: Values) -> float:
    """From a tie, of what is nearest to one."""
    return float(np.abs(values - np.floor(values) - 0.5).min())


scales = st.floats(0.01, 0.5)


@settings(max_examples=30, deadline=None)
@given(scales, scales, st.floats(0.05, 1.0))
def test_no_pair_of_inputs_stays_near_a_tie(a: float, b: float, c: float) -> None:
    model = quantized_sum(a, b, c)
    before, was = distance(all_sums(model)), scale_of(model)
    avoid_ties(model)
    after = distance(all_sums(model))
    assert after >= before and after > 1e-5
    assert was <= scale_of(model) <= was * (1 + 5e-4)


def test_sums_that_are_ties_by_the_thousand_are_moved_and_stay_what_they_are() -> None:
    model = quantized_sum(0.1, 0.1, 0.2)  # every second sum lies between two numbers
    assert distance(all_sums(model)) < 1e-6
    qa, qb = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8), indexing="ij")
    before = run(model, qa, qb)
    avoid_ties(model)
    after = run(model, qa, qb)
    wanted = np.clip(np.rint(all_sums(model)) + 120, 0, 255)
    assert np.array_equal(after, wanted)
    assert np.abs(after.astype(int) - before).max() == 1


def run(model: ModelProto, qa: NDArray[np.uint8], qb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[np.uint8] = session.run(None, {"qa": qa, "qb": qb})[0]
    return found


@pytest.mark.parametrize("reader", ["Relu", "Sigmoid"])
def test_what_is_not_quantized_by_itself_stays(reader: str) -> None:
    model = quantized_sum(0.1, 0.1, 0.2, reader=reader)
    before = model.SerializeToString()
    avoid_ties(model)
    assert model.SerializeToString() == before
