"""Which INT8 graphs are exact on x86 without VNNI, and that sessions of the others are told to be."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgecap.runtime.engines import saturation
from edgecap.runtime.engines.saturation import PAIR_LIMIT, can_saturate, keeps_pair_limit, largest_pair, session_entries

Int8 = NDArray[np.int8]


def vpmaddubsw(a: NDArray[np.uint8], weight: Int8) -> NDArray[np.int32]:
    """Products as AVX2 adds them up, of inputs (I,) and weights (O, I): pairs in 16 bits that saturate, then in 32."""
    products = a.astype(np.int32) * weight
    if products.shape[1] % 2:
        products = np.pad(products, ((0, 0), (0, 1)))
    pairs = products[:, ::2] + products[:, 1::2]
    return np.clip(pairs, -(2**15), 2**15 - 1).sum(1)


rows = hnp.arrays(np.int8, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.integers(-127, 127))


@settings(max_examples=300)
@given(rows, st.data())
def test_within_the_limit_no_input_saturates_and_beyond_it_one_does(weight: Int8, data: st.DataObject) -> None:
    a = data.draw(hnp.arrays(np.uint8, weight.shape[1], elements=st.sampled_from([0, 1, 128, 254, 255])))
    largest = np.full(weight.shape[1], 255, np.uint8)
    if largest_pair(weight) <= PAIR_LIMIT:
        for inputs in (a, largest):
            assert np.array_equal(vpmaddubsw(inputs, weight), weight.astype(np.int32) @ inputs)
    else:
        worst = np.abs(weight[:, :-1:2].astype(int) + weight[:, 1::2])
        output, pair = np.unravel_index(worst.argmax(), worst.shape)
        only = np.zeros_like(largest)
        only[2 * pair : 2 * pair + 2] = 255
        assert vpmaddubsw(only, weight)[output] != weight[output].astype(np.int32) @ only


def quantized(kind: str, weight: Int8, *, recorded: bool = True, **attributes: Any) -> bytes:
    """A graph of one INT8 product, as the quantizers write them."""
    constants = [numpy_helper.from_array(weight, "w")]
    if kind == "MatMulInteger":
        nodes = [helper.make_node(kind, ["x", "w"], ["y"], **attributes)]
    else:
        nodes = [
            helper.make_node("DequantizeLinear", ["w", "scale"], ["real"]),
            helper.make_node(kind, ["x", "real"], ["y"], **attributes),
        ]
        constants.append(numpy_helper.from_array(np.float32(0.1), "scale"))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, None)], [value("y", TensorProto.FLOAT, None)], constants
    )
    model = helper.make_model(graph)
    if recorded:
        helper.set_model_props(model, dict([saturation.RECORD]))
    content: bytes = model.SerializeToString()
    return content


def filled(shape: Sequence[int], pairs: tuple[int, int], axis: int) -> Int8:
    """Weights whose neighbours along an axis are these pairs."""
    weight = np.zeros(shape, np.int8)
    np.moveaxis(weight, axis, 0)[0::2] = pairs[0]
    np.moveaxis(weight, axis, 0)[1::2] = pairs[1]
    return weight


@pytest.mark.parametrize(("pair", "safe"), [((64, 64), True), ((127, 1), True), ((127, -127), True), ((65, 64), False)])
@pytest.mark.parametrize(
    ("kind", "shape", "axis", "attributes"),
    [
        ("Conv", (3, 4, 1, 1), 1, {}),
        ("Conv", (3, 4, 3, 3), 1, {"group": 1}),
        ("Conv", (3, 3, 1, 1), 1, {}),
        ("MatMul", (6, 5), 0, {}),
        ("MatMulInteger", (7, 5), 0, {}),
        ("Gemm", (5, 6), 1, {"transB": 1}),
        ("Gemm", (6, 5), 0, {}),
    ],
)
def test_pairs_are_neighbours_along_what_is_added_up(
    kind: str, shape: tuple[int, ...], axis: int, attributes: dict[str, Any], pair: tuple[int, int], safe: bool
) -> None:
    graph = quantized(kind, filled(shape, pair, axis), **attributes)
    assert can_saturate(graph) is not safe
    assert keeps_pair_limit(graph) is safe


def test_what_is_not_known_is_not_safe() -> None:
    fine, bad = filled((4, 4, 1, 1), (1, 1), 1), filled((4, 4, 1, 1), (127, 127), 1)
    assert keeps_pair_limit(quantized("Conv", fine))
    assert not keeps_pair_limit(quantized("Conv", fine, recorded=False))  # nobody says so
    assert not keeps_pair_limit(quantized("Conv", bad))  # it says so, and is not
    assert not keeps_pair_limit(quantized("Conv", fine, group=2))
    assert not keeps_pair_limit(quantized("ConvTranspose", fine))
    assert not keeps_pair_limit(b"no graph")
    assert not keeps_pair_limit(quantized("Conv", fine)[:-40])
    deep = filled((4, 1, 3, 3), (127, 127), 1)
    assert keeps_pair_limit(quantized("Conv", deep, group=4))  # depthwise: nothing is added in 16 bits


def test_values_that_are_not_stored_raw_are_not_understood() -> None:
    model = onnx.load_from_string(quantized("MatMul", filled((4, 4), (1, 1), 0)))
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    weight.int32_data.extend(np.frombuffer(weight.raw_data, np.int8).tolist())
    weight.ClearField("raw_data")
    assert not keeps_pair_limit(model.SerializeToString())
    with pytest.raises(ValueError, match="cannot be read"):
        can_saturate(model.SerializeToString())


def test_sessions_on_x86_are_exact_but_where_that_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    safe = quantized("Conv", filled((4, 4, 1, 1), (64, 64), 1))
    other = quantized("Conv", filled((4, 4, 1, 1), (100, 64), 1))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(saturation, "cpu_flags", lambda: frozenset({"avx2"}))
    assert session_entries(safe) == {}
    assert session_entries(other) == {"session.x64quantprecision": "1"}
    monkeypatch.setattr(saturation, "cpu_flags", lambda: frozenset({"avx2", "avx512_vnni"}))
    monkeypatch.setattr(saturation, "keeps_pair_limit", lambda graph: pytest.fail("nobody has to look"))
    assert session_entries(safe) == session_entries(other) == {"session.x64quantprecision": "1"}
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert session_entries(other) == {}
