"""Weights on the INT8 grid: what stays, what makes up for the rest, and what the layers' inputs are taken to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession
from onnxruntime.quantization.quant_utils import quantize_data

from edgecap.errors import ExportError
from edgecap.export.compress.layer_inputs import Feeds, Moments, input_moments
from edgecap.export.compress.quantization import quantize_dynamically, quantize_statically
from edgecap.export.compress.weight_rounding import round_weights, rounded_rows, step_sizes, unsaturated_rows
from edgecap.export.variant import Compression
from edgecap.runtime.engines.saturation import PAIR_LIMIT, can_saturate, keeps_pair_limit

Array = NDArray[np.float32]
Doubles = NDArray[np.float64]

LARGEST = 127
BOTH, NO_FEEDBACK, NO_CORRECTION = (
    Compression("int8"),
    Compression("int8", error_feedback=False),
    Compression("int8", bias_correction=False),
)


def write_graph(path: Path, nodes: list[Any], inputs: dict[str, Any], outputs: list[str], **constants: Array) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(onnx.shape_inference.infer_shapes(model, strict_mode=True), path)
    return path


def run(path: Path, samples: Sequence[Feeds], output: str = "y") -> Array:
    """An output over all samples, which are joined at its first axis."""
    session = InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    found: Array = np.concatenate([session.run([output], dict(feeds))[0] for feeds in samples])
    return found


def constants(path: Path) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_model(path).graph.initializer}


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def nearest(weight: Doubles, steps: Doubles) -> Doubles:
    """Plain rounding: every weight to the nearest step."""
    rounded: Doubles = np.clip(np.rint(weight / steps), -LARGEST, LARGEST) * steps
    return rounded


@dataclass(frozen=True)
class Product:
    """A graph of one product, ``x`` by ``w`` to ``y``, and what it is fed with."""

    kind: str
    weight: tuple[int, ...]
    x: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path, *, bias: bool = True) -> Path:
        inputs = {"x": [None if size == -1 else size for size in self.x]}
        made = {"w": random(*self.weight, seed=1), **({"b": random(self.outputs, seed=2)} if bias else {})}
        if self.kind == "MatMul":
            nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
            nodes = nodes if bias else [helper.make_node("MatMul", ["x", "w"], ["y"])]
        else:
            nodes = [helper.make_node(self.kind, ["x", "w", *(["b"] if bias else [])], ["y"], **self.attributes)]
        return write_graph(path, nodes, inputs, ["y"], **made)

    @property
    def outputs(self) -> int:
        stored_first = self.kind == "Conv" or self.attributes.get("transB")
        return self.weight[0 if stored_first else -1]

    def samples(self, count: int = 3) -> list[Feeds]:
        """Inputs that go together and have means, some constant, of sizes that differ where they may."""
        return [{"x": self._sample(seed)} for seed in range(count)]

    def _sample(self, seed: int) -> Array:
        channels = 1 if self.kind == "Conv" else len(self.x) - 1
        values = random(*(2 + seed if size == -1 else size for size in self.x), seed=seed)
        mixed = np.moveaxis(values, channels, -1) @ (random(values.shape[channels], values.shape[channels], seed=9) + 1)
        mixed[..., 0] = 0.7
        return np.ascontiguousarray(np.moveaxis(mixed + 0.5, -1, channels))

    def rows(self, x: Array) -> Doubles:
        """What each output of each group multiplies, (G, P, I), position by position."""
        if self.kind != "Conv":
            return x.reshape(1, -1, x.shape[-1]).astype(np.float64)
        top, left, bottom, right = self.attributes["pads"]
        stride, groups, (_, per_group, height, width) = (
            self.attributes["strides"][0],
            self.attributes["group"],
            self.weight,
        )
        image = np.zeros((x.shape[1], x.shape[2] + top + bottom, x.shape[3] + left + right))
        image[:, top : top + x.shape[2], left : left + x.shape[3]] = x[0]
        found: list[list[list[float]]] = []
        for group in range(groups):
            channels = image[group * per_group : (group + 1) * per_group]
            rows, columns = range(image.shape[1] - height + 1)[::stride], range(image.shape[2] - width + 1)[::stride]
            found.append(
                [
                    [
                        channels[c, i + di, j + dj]
                        for c, di, dj in product(range(per_group), range(height), range(width))
                    ]
                    for i, j in product(rows, columns)
                ]
            )
        return np.array(found)


def conv(
    weight: tuple[int, ...], side: int, stride: int = 1, pads: tuple[int, ...] = (0, 0, 0, 0), group: int = 1
) -> Product:
    attributes = {"strides": [stride, stride], "pads": list(pads), "group": group, "kernel_shape": list(weight[2:])}
    return Product("Conv", weight, (1, weight[1] * group, side, side + 1), attributes)


PRODUCTS = {
    "1x1": conv((5, 3, 1, 1), 6),
    "3x3": conv((4, 2, 3, 3), 6),
    "padded": conv((4, 2, 3, 3), 5, pads=(1, 1, 1, 1)),
    "strided": conv((4, 3, 3, 3), 8, stride=2, pads=(0, 0, 1, 1)),  # as TensorFlow pads
    "grouped": conv((6, 2, 3, 3), 6, pads=(1, 0, 2, 1), group=3),
    "depthwise": conv((4, 1, 5, 5), 8, stride=2, pads=(1, 1, 2, 2), group=4),
    "MatMul": Product("MatMul", (6, 4), (-1, 5, 6)),
    "Gemm": Product("Gemm", (6, 4), (-1, 6)),
    "Gemm, transposed": Product("Gemm", (4, 6), (-1, 6), {"transB": 1}),
}
each_product = pytest.mark.parametrize("layer", PRODUCTS.values(), ids=PRODUCTS.keys())


@each_product
def test_moments_are_those_of_a_plain_loop(layer: Product, tmp_path: Path) -> None:
    samples = layer.samples()
    found = input_moments(layer.write(tmp_path / "graph.onnx"), samples)
    assert found.keys() == {"w"}
    rows = np.concatenate([layer.rows(feeds["x"]) for feeds in samples], axis=1)  # (G, P, I)
    assert found["w"].count == rows.shape[1]
    np.testing.assert_allclose(found["w"].mean, rows.mean(1), rtol=1e-12)
    about_zero = np.einsum("gpi,gpj->gij", rows, rows) / rows.shape[1]
    np.testing.assert_allclose(found["w"].covariance(centred=False), about_zero, rtol=1e-9, atol=1e-9)
    about_mean = np.stack([np.cov(group.T, bias=True).reshape(group.shape[1], -1) for group in rows])
    np.testing.assert_allclose(found["w"].covariance(centred=True), about_mean, rtol=1e-9, atol=1e-5)


def test_moments_are_of_tensors_within_the_graph_too(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["p"]),
        helper.make_node("Relu", ["p"], ["r"]),
        helper.make_node("MatMul", ["r", "second"], ["y"]),
    ]
    weights = {"first": random(4, 3), "second": random(3, 2)}
    path = write_graph(tmp_path / "graph.onnx", nodes, {"x": [None, 4]}, ["y"], **weights)
    x = random(50, 4, seed=5)
    moments = input_moments(path, [{"x": x}])
    np.testing.assert_allclose(moments["first"].mean[0], x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments["second"].mean[0], np.maximum(x @ weights["first"], 0).mean(0), rtol=1e-5)


@st.composite
def weights_and_inputs(draw: st.DrawFn) -> tuple[Doubles, Doubles]:
    """Weights (G, O, I) with dead rows and zeros, and inputs (G, P, I) that go together; some may never vary."""
    groups, outputs, inputs = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 9))
    sizes = (
        st.floats(2**-10, 8, width=32)
        | st.floats(-8, -(2**-10), width=32)
        | st.sampled_from([0.0, 8.0, 7.96875, -7.96875])
    )
    weight = draw(hnp.arrays(np.float32, (groups, outputs, inputs), elements=sizes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal((groups, draw(st.integers(1, 60)), inputs)) @ rng.standard_normal((inputs, inputs))
    x = x * draw(hnp.arrays(np.float64, inputs, elements=st.sampled_from([0.0, 1e-6, 1.0, 10.0])))
    x += draw(hnp.arrays(np.float64, inputs, elements=st.sampled_from([0.0, -0.3, 6.0])))
    return weight.astype(np.float64), x.astype(np.float32).astype(np.float64)


def moments_of(x: Doubles) -> Moments:
    return Moments(x.shape[1], x.sum(1), x.transpose(0, 2, 1) @ x)


@settings(max_examples=200, deadline=None)
@given(weights_and_inputs(), st.booleans(), st.booleans())
def test_rounded_weights_are_those_that_int8_holds(
    drawn: tuple[Doubles, Doubles], centred: bool, per_channel: bool
) -> None:
    weight, x = drawn
    steps = step_sizes(weight, per_channel=per_channel)
    near = rounded_rows(weight, moments_of(x).covariance(centred=centred), steps)
    numbers = near / steps
    assert np.abs(numbers).max() <= LARGEST * (1 + 1e-9)
    assert np.abs(numbers - np.rint(numbers)).max() < 2e-3  # off by more than rounding: one of full size, as it was
    largest = np.abs(weight).max(axis=2 if per_channel else None, keepdims=True)
    full = (np.abs(weight) == largest) & (weight != 0)
    assert np.array_equal(near[full], weight[full])
    assert not near[(weight == 0).all(axis=2)].any()

    stored = near.astype(np.float32)  # as in the rounded graph
    for channel in stored.reshape(-1, stored.shape[2]) if per_channel else [stored]:
        _, scale, quantized = quantize_data(channel, TensorProto.INT8, True)
        np.testing.assert_allclose(quantized * np.float64(scale), channel, rtol=0, atol=2e-3 * scale)
    again = nearest(stored.astype(np.float64), step_sizes(stored.astype(np.float64), per_channel=per_channel))
    np.testing.assert_allclose(again, stored, rtol=0, atol=2e-3 * steps.max())


@settings(max_examples=200, deadline=None)
@given(weights_and_inputs())
def test_no_two_neighbours_are_beyond_the_limit_of_pairs(drawn: tuple[Doubles, Doubles]) -> None:
    weight, x = drawn[0][:1], drawn[1][:1]  # of one group: (1, O, I) and (1, P, I)
    inputs = weight.shape[2]
    neighbours = np.array([i ^ 1 if i ^ 1 < inputs else inputs for i in range(inputs)])
    covariance, steps = moments_of(x).covariance(centred=False), step_sizes(weight, per_channel=True)
    near, used = unsaturated_rows(weight, covariance, steps, neighbours)
    numbers = np.rint(near / used)
    assert np.abs(near / used - numbers).max() < 1e-6
    assert np.abs(numbers).max() <= LARGEST
    even = np.pad(numbers, ((0, 0), (0, 0), (0, inputs % 2)))
    assert np.abs(even[:, :, ::2] + even[:, :, 1::2]).max() <= PAIR_LIMIT
    assert ((used >= steps) & (used <= 2 * steps)).all()
    # What 7 bits give, to nearest, is never better.
    outputs, wanted, plain = (x @ rows.transpose(0, 2, 1) for rows in (near, weight, nearest(weight, 2 * steps)))
    error, coarse = (((found - wanted) ** 2).mean(1) for found in (outputs, plain))
    assert (error <= coarse * (1 + 1e-6) + 1e-9).all()


@settings(max_examples=200, deadline=None)
@given(weights_and_inputs())
def test_no_output_is_further_off_than_with_plain_rounding(drawn: tuple[Doubles, Doubles]) -> None:
    weight, x = drawn
    steps = step_sizes(weight, per_channel=True)
    near = rounded_rows(weight, moments_of(x).covariance(centred=False), steps)
    outputs, wanted, plain = (x @ rows.transpose(0, 2, 1) for rows in (near, weight, nearest(weight, steps)))
    error, before = (((found - wanted) ** 2).mean(1) for found in (outputs, plain))  # (G, O)
    assert (error <= before * (1 + 1e-6) + 1e-9).all()


WIDE = {
    "1x1": conv((8, 24, 1, 1), 8),
    "3x3": conv((8, 8, 3, 3), 8, pads=(1, 1, 1, 1)),
    "depthwise": conv((8, 1, 5, 5), 16, stride=2, pads=(1, 1, 2, 2), group=8),
    "MatMul": Product("MatMul", (24, 8), (-1, 50, 24)),
    "Gemm, transposed": Product("Gemm", (8, 24), (-1, 24), {"transB": 1}),
}


@pytest.mark.parametrize("layer", WIDE.values(), ids=WIDE.keys())
@pytest.mark.parametrize("correction", [True, False])
def test_inputs_that_go_together_leave_a_smaller_error(layer: Product, correction: bool, tmp_path: Path) -> None:
    """Neighbours in space and among channels are alike, as in a photo."""
    fp32 = layer.write(tmp_path / "fp32.onnx")
    samples = [{"x": alike(feeds["x"])} for feeds in layer.samples(20)]
    moments, errors = input_moments(fp32, samples), []
    for feedback in (True, False):
        recipe = Compression("int8", error_feedback=feedback, bias_correction=correction)
        round_weights(fp32, tmp_path / "rounded.onnx", "encoder", moments, recipe, per_channel=True)
        errors.append(np.square(run(tmp_path / "rounded.onnx", samples) - run(fp32, samples)).mean())
    assert errors[0] < 0.5 * errors[1]


def test_what_the_bias_makes_good_the_weights_need_not(tmp_path: Path) -> None:
    """Of inputs with large means, each weight is rounded for how they vary."""
    layer = WIDE["MatMul"]
    fp32 = layer.write(tmp_path / "fp32.onnx")
    samples = [{"x": alike(feeds["x"]) + np.linspace(-9, 9, 24, dtype=np.float32)} for feeds in layer.samples(20)]
    moments, spread = input_moments(fp32, samples), []
    for recipe in (BOTH, NO_CORRECTION):
        round_weights(fp32, tmp_path / "rounded.onnx", "encoder", moments, recipe, per_channel=True)
        error = run(tmp_path / "rounded.onnx", samples) - run(fp32, samples)
        spread.append(error.std((0, 1)).mean())
    assert spread[0] < 0.5 * spread[1]


def alike(x: Array) -> Array:
    for axis in range(1, x.ndim):
        x = x.cumsum(axis)
    x /= np.abs(x).max()
    return x


def by_output(y: Array, layer: Product) -> Array:
    """(P, O), whatever the layer makes."""
    return (np.moveaxis(y, 1, -1) if layer.kind == "Conv" else y).reshape(-1, layer.outputs)


@each_product
def test_the_bias_makes_the_mean_error_zero(layer: Product, tmp_path: Path) -> None:
    fp32, samples = layer.write(tmp_path / "fp32.onnx"), layer.samples()
    moments, means = input_moments(fp32, samples), {}
    for name, recipe in (("corrected", BOTH), ("not", NO_CORRECTION), ("plain", NO_FEEDBACK)):
        round_weights(fp32, tmp_path / name, "encoder", moments, recipe, per_channel=True)
        errors = [run(tmp_path / name, [feeds]) - run(fp32, [feeds]) for feeds in samples]
        means[name] = np.concatenate([by_output(error, layer) for error in errors]).mean(0)
    np.testing.assert_allclose(means["corrected"], 0, atol=2e-6)
    np.testing.assert_allclose(means["plain"], 0, atol=2e-6)
    assert np.abs(means["not"]).max() > 1e-4


@each_product
def test_the_recipe_chooses_what_is_done(layer: Product, tmp_path: Path) -> None:
    fp32 = layer.write(tmp_path / "fp32.onnx")
    moments, before = input_moments(fp32, layer.samples()), constants(fp32)

    def rounded(per_channel: bool = True, **changes: Any) -> dict[str, Array]:
        recipe = Compression("int8", **changes)
        round_weights(fp32, tmp_path / "rounded.onnx", "encoder", moments, recipe, per_channel=per_channel)
        return constants(tmp_path / "rounded.onnx")

    inputs = tuple(range(1, 4)) if layer.kind == "Conv" else (1 if layer.attributes.get("transB") else 0,)
    by_channel = np.abs(before["w"]).max(axis=inputs, keepdims=True) / LARGEST
    plain = nearest(before["w"].astype(np.float64), by_channel.astype(np.float64))
    neither = rounded(error_feedback=False, bias_correction=False)
    np.testing.assert_allclose(neither["w"], plain, rtol=1e-6)
    assert np.array_equal(neither["b"], before["b"])

    corrected = rounded(error_feedback=False)
    assert np.array_equal(corrected["w"], neither["w"]) and (corrected["b"] != before["b"]).all()
    fed = rounded(bias_correction=False)
    assert np.array_equal(fed["b"], before["b"])
    assert (np.abs(fed["w"] - neither["w"]) > by_channel / 2).any()

    one_step = np.abs(before["w"]).max() / LARGEST
    numbers = rounded(per_channel=False)["w"] / one_step
    np.testing.assert_allclose(numbers, np.rint(numbers), atol=1e-4)
    assert np.abs(numbers).max() == pytest.approx(LARGEST)


@pytest.mark.parametrize("order", ["bias first", "bias last", "bias in the middle"])
def test_three_products_of_one_sum_shift_its_bias(order: str, tmp_path: Path) -> None:
    """As the gates of the decoder step; the sum may be written in any order."""
    products = [helper.make_node("MatMul", [f"x{n}", f"w{n}"], [f"p{n}"]) for n in range(3)]
    terms = ["p0", "p1", "p2"]
    terms.insert({"bias first": 1, "bias in the middle": 2, "bias last": 3}[order], "b")
    sums = [helper.make_node("Add", [terms[0] if n == 0 else f"s{n}", terms[n + 1]], [f"s{n + 1}"]) for n in range(3)]
    inputs = {f"x{n}": [None, 2, 5 + n] for n in range(3)}
    weights = {f"w{n}": random(5 + n, 8, seed=n) for n in range(3)}
    end = helper.make_node("Tanh", ["s3"], ["y"])
    fp32 = write_graph(
        tmp_path / "fp32.onnx", [*products, *sums, end], inputs, ["y", "s3"], b=random(8, seed=3), **weights
    )
    samples = [{f"x{n}": random(20, 2, 5 + n, seed=10 * s + n) + n for n in range(3)} for s in range(2)]
    moments = input_moments(fp32, samples)
    round_weights(fp32, tmp_path / "rounded.onnx", "decoder_step", moments, BOTH, per_channel=True)
    error = run(tmp_path / "rounded.onnx", samples, "s3") - run(fp32, samples, "s3")
    np.testing.assert_allclose(error.mean((0, 1)), 0, atol=2e-6)
    after = constants(tmp_path / "rounded.onnx")
    shift = sum(moments[name].mean[0] @ (weights[name].astype(np.float64) - after[name]) for name in weights)
    np.testing.assert_allclose(after["b"], constants(fp32)["b"] + shift, atol=1e-6)


def energy_graph(path: Path) -> Path:
    """As the attention of the decoder step: a product without bias, added to what is no constant; an energy."""
    nodes = [
        helper.make_node("MatMul", ["h", "query"], ["q"], "query_product"),
        helper.make_node("Add", ["q", "keys"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["t"]),
        helper.make_node("MatMul", ["t", "energy"], ["e"], "energy_product"),
        helper.make_node("MatMul", ["t", "out"], ["o"], "out_product"),
        helper.make_node("Add", ["o", "offset"], ["y"]),
    ]
    weights = {"query": random(6, 5), "energy": random(5, 1), "out": random(5, 7), "offset": random(7, seed=4)}
    return write_graph(path, nodes, {"h": [None, 6], "keys": [None, 5]}, ["e", "y"], **weights)


def test_a_product_without_bias_gets_none_and_the_energies_stay(tmp_path: Path) -> None:
    fp32 = energy_graph(tmp_path / "fp32.onnx")
    samples = [{"h": random(40, 6, seed=1) + 1, "keys": random(40, 5, seed=2)}]
    moments = input_moments(fp32, samples)
    assert moments.keys() == {"query", "out"}
    round_weights(fp32, tmp_path / "rounded.onnx", "decoder_step", moments, BOTH, per_channel=True)
    before, after = constants(fp32), constants(tmp_path / "rounded.onnx")
    changed = {name for name, value in after.items() if not np.array_equal(value, before[name])}
    assert changed == {"query", "out", "offset"} and after.keys() == before.keys()
    models = [onnx.load_model(path) for path in (fp32, tmp_path / "rounded.onnx")]
    for model in models:
        del model.graph.initializer[:]
    assert models[0] == models[1]


def dequantized(path: Path) -> list[Doubles]:
    """The INT8 weights of a graph as real numbers, with one scale for each slice of an axis."""
    model = onnx.load_model(path)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = []
    for name, value in stored.items():
        if value.dtype == np.int8 and value.ndim > 1:
            scale = next(stored[end] for end in (name[: -len("quantized")] + "scale",) if end in stored)
            axis = value.shape.index(len(scale)) if scale.ndim else 0
            found.append(value * np.expand_dims(scale, tuple(n for n in range(value.ndim) if n != axis)).astype(float))
    return found


@pytest.mark.parametrize("pair_limit", [False, True])
def test_onnx_runtime_quantizes_rounded_convolutions_without_further_error(pair_limit: bool, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["image", "stem", "b0"], ["c0"], "stem_node", **PRODUCTS["strided"].attributes),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "deep", "b1"], ["c1"], "deep_node", **PRODUCTS["depthwise"].attributes),
        helper.make_node("Conv", ["c1", "last", "b2"], ["y"], "last_node", **PRODUCTS["1x1"].attributes),
    ]
    weights = {"stem": random(4, 3, 3, 3), "deep": random(4, 1, 5, 5, seed=1), "last": random(7, 4, 1, 1, seed=2)}
    biases = {f"b{n}": random(size, seed=5) for n, size in enumerate((4, 4, 7))}
    fp32 = write_graph(tmp_path / "fp32.onnx", nodes, {"image": [1, 3, 16, 16]}, ["y"], **weights, **biases)
    samples = [random(1, 3, 16, 16, seed=seed) for seed in range(6)]
    moments = input_moments(fp32, [{"image": sample} for sample in samples])
    rounding = {"per_channel": True, "pair_limit": pair_limit}
    steps = round_weights(fp32, tmp_path / "rounded.onnx", "encoder", moments, BOTH, **rounding)
    feeds = ({"image": sample} for sample in samples)
    quantize_statically(tmp_path / "rounded.onnx", tmp_path / "int8.onnx", "encoder", feeds, "minmax", steps)
    assert can_saturate((tmp_path / "int8.onnx").read_bytes()) != pair_limit
    assert keeps_pair_limit((tmp_path / "int8.onnx").read_bytes()) == pair_limit
    wanted = constants(tmp_path / "rounded.onnx")
    found = dequantized(tmp_path / "int8.onnx")
    assert len(found) == len(weights)
    for value in found:
        if value.shape == (4, 4, 3, 3):  # the stem, with a channel of zeros beside the image's
            assert not value[:, 3].any()
            value = value[:, :3]
        (name,) = [name for name in weights if weights[name].shape == value.shape]
        np.testing.assert_allclose(value, wanted[name], rtol=1e-6)
        assert np.abs(value - weights[name]).max() > 1e-3


@pytest.mark.parametrize("pair_limit", [False, True])
def test_onnx_runtime_quantizes_rounded_products_without_further_error(pair_limit: bool, tmp_path: Path) -> None:
    fp32 = energy_graph(tmp_path / "fp32.onnx")
    moments = input_moments(fp32, [{"h": random(40, 6, seed=1), "keys": random(40, 5, seed=2)}])
    rounding = {"per_channel": True, "pair_limit": pair_limit}
    steps = round_weights(fp32, tmp_path / "rounded.onnx", "decoder_step", moments, BOTH, **rounding)
    quantize_dynamically(tmp_path / "rounded.onnx", tmp_path / "int8.onnx", "decoder_step", steps)
    assert can_saturate((tmp_path / "int8.onnx").read_bytes()) != pair_limit
    assert keeps_pair_limit((tmp_path / "int8.onnx").read_bytes()) == pair_limit
    wanted, found = constants(tmp_path / "rounded.onnx"), dequantized(tmp_path / "int8.onnx")
    assert len(found) == 2
    for value in found:
        (name,) = [name for name in ("query", "out") if wanted[name].shape == value.shape]
        np.testing.assert_allclose(value, wanted[name], rtol=1e-6)
    assert np.array_equal(constants(tmp_path / "int8.onnx")["energy"], constants(fp32)["energy"])


@pytest.mark.parametrize("value", [0.0, 0.1, 6.0])
@pytest.mark.parametrize("vary", [0.0, 1e-5, 1.0])
def test_inputs_that_never_vary_can_be_rounded_for(value: float, vary: float, tmp_path: Path) -> None:
    """Channels that a network let die; with so many positions, rounding errors are larger than what varies."""
    layer = Product("MatMul", (20, 4), (-1, 20))
    fp32 = layer.write(tmp_path / "fp32.onnx")
    x = np.full((3000, 20), value, np.float32)
    x[:, 0] += vary * random(3000)
    moments = input_moments(fp32, [{"x": x}])
    round_weights(fp32, tmp_path / "rounded.onnx", "encoder", moments, BOTH, per_channel=True)
    error = run(tmp_path / "rounded.onnx", [{"x": x}]) - run(fp32, [{"x": x}])
    np.testing.assert_allclose(error.mean(0), 0, atol=1e-5)


def test_moments_that_no_inputs_have_are_a_named_failure(tmp_path: Path) -> None:
    layer = PRODUCTS["MatMul"]
    fp32 = layer.write(tmp_path / "fp32.onnx")
    moments = {"w": Moments(1, np.zeros((1, 6)), -np.eye(6)[None])}
    with pytest.raises(ExportError, match=r"export failed at weight rounding of decoder_step\.int8: w: ") as raised:
        round_weights(fp32, tmp_path / "rounded.onnx", "decoder_step", moments, BOTH, per_channel=True)
    assert (raised.value.stage, raised.value.graph) == ("weight rounding", "decoder_step.int8")
    assert not (tmp_path / "rounded.onnx").exists()
