"""FP16 as a storage format: what is stored half, what stays, and that either engine runs it as it ran fp32."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from converted import D, E, H, V, arrays, graph, images, in_engine, step_samples, stepped, write_graph
from exported import needs_converter
from onnx import TensorProto, numpy_helper
from tiny_tflite import edited

from edgecap.errors import ExportError
from edgecap.export.compress.half_storage import SMALLEST, store_half
from edgecap.runtime.engines.engine import Encoded, Engine, Step

pytestmark = pytest.mark.usefixtures("one_torch_thread")

ROLES = ("encoder", "decoder_step")
LARGE_OF_STEP = {"embedding": V * E, "gates of the embedding": 4 * H * E, "gates of the context": 4 * H * D}
LARGEST_HALF = float(np.finfo(np.float16).max)
TENSOR_TYPES = schema.TensorType


def test_the_step_has_large_and_small_weights() -> None:
    assert min(LARGE_OF_STEP.values()) >= SMALLEST > 4 * H * H


def of_precision(engine: str, precision: str) -> Engine:
    encoder, step = (graph("plus", f"{role}.{precision}.{engine}") for role in ROLES)
    return in_engine(engine, encoder, step)


def assert_near_but_not_equal(one: Encoded | Step, other: Encoded | Step) -> None:
    errors = {
        name: np.sqrt(np.square(value - arrays(other)[name]).mean() / np.square(value).mean())
        for name, value in arrays(one).items()
    }
    assert 1e-5 < max(errors.values()) < 3e-3, errors


@pytest.mark.parametrize("engine", ["onnx", pytest.param("tflite", marks=needs_converter)])
def test_both_engines_say_nearly_what_they_say_in_fp32(engine: str) -> None:
    fp32, fp16 = (of_precision(engine, precision) for precision in ("fp32", "fp16"))
    photos = np.concatenate(images(3, seed=7))
    assert_near_but_not_equal(fp32.encode(photos), fp16.encode(photos))
    for feeds in step_samples("plus"):
        assert_near_but_not_equal(stepped(fp32, feeds), stepped(fp16, feeds))


@pytest.mark.parametrize("role", ROLES)
def test_an_onnx_graph_casts_its_large_tensors_and_no_others(role: str) -> None:
    fp32, fp16 = (onnx.load_from_string(graph("plus", f"{role}.{name}.onnx")) for name in ("fp32", "fp16"))
    onnx.checker.check_model(fp16, full_check=True)
    before, after = ({tensor.name: tensor for tensor in model.graph.initializer} for model in (fp32, fp16))
    large = {name for name, tensor in before.items() if np.prod(tensor.dims) >= SMALLEST}
    casts = [node for node in fp16.graph.node if node.op_type == "Cast"]
    assert {node.output[0] for node in casts} == large and len(large) == {"encoder": 2, "decoder_step": 3}[role]
    assert list(fp16.graph.node)[: len(casts)] == casts
    assert list(fp16.graph.node)[len(casts) :] == list(fp32.graph.node)
    for name, tensor in before.items():
        wanted = numpy_helper.to_array(tensor)
        if name in large:
            (half,) = [after[node.input[0]] for node in casts if node.output[0] == name]
            assert half.data_type == TensorProto.FLOAT16
            np.testing.assert_allclose(numpy_helper.to_array(half), wanted, rtol=2**-11, atol=2**-25)
        else:
            assert after[name] == tensor
    said = {entry.key: entry.value for entry in fp16.metadata_props}
    assert (said["edgecap.role"], said["edgecap.precision"]) == (role, "fp16")


def test_an_onnx_graph_without_large_tensors_stays_as_it_is(tmp_path: Path) -> None:
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    x, y = (
        onnx.helper.make_tensor_value_info(*end)
        for end in (("x", TensorProto.FLOAT, [1, 8]), ("y", TensorProto.FLOAT, [1, 9]))
    )
    weight = numpy_helper.from_array(np.ones((8, 9), np.float32), "w")
    made = onnx.helper.make_graph([node], "graph", [x], [y], [weight])
    onnx.save_model(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)]), tmp_path / "a.onnx")
    store_half(tmp_path / "a.onnx", tmp_path / "b.onnx", "encoder")
    assert onnx.load_model(tmp_path / "b.onnx").graph == made


@pytest.mark.parametrize("value", [LARGEST_HALF, -LARGEST_HALF, 65_519.0])
def test_what_fp16_can_just_hold_is_stored(value: float, tmp_path: Path) -> None:
    path = with_a_value(tmp_path, value)
    store_half(path, tmp_path / "fp16.onnx", "decoder_step")
    tensors = onnx.load_model(tmp_path / "fp16.onnx").graph.initializer
    (half,) = [tensor for tensor in tensors if tensor.name == "decoder.embedding.weight_half"]
    assert numpy_helper.to_array(half)[3, 5] == np.copysign(LARGEST_HALF, value)


@pytest.mark.parametrize("value", [65_520.0, -1e6, np.inf, np.nan])
def test_what_fp16_cannot_hold_is_named(value: float, tmp_path: Path) -> None:
    path = with_a_value(tmp_path, value)
    with pytest.raises(ExportError) as raised:
        store_half(path, tmp_path / "fp16.onnx", "decoder_step")
    problem = f"decoder.embedding.weight holds {abs(value):.6g}, beyond FP16's 65504"
    assert str(raised.value) == f"export failed at fp16 storage of decoder_step.fp16: {problem}"
    assert (raised.value.stage, raised.value.graph) == ("fp16 storage", "decoder_step.fp16")
    assert not (tmp_path / "fp16.onnx").exists()


def with_a_value(folder: Path, value: float) -> Path:
    """The decoder step with this value in its table of embeddings."""
    model = onnx.load_from_string(graph("plus", "decoder_step.fp32.onnx"))
    (table,) = [tensor for tensor in model.graph.initializer if tensor.name == "decoder.embedding.weight"]
    values = numpy_helper.to_array(table).copy()
    values[3, 5] = value
    table.CopyFrom(numpy_helper.from_array(values, table.name))
    onnx.save_model(model, folder / "fp32.onnx")
    return folder / "fp32.onnx"


@needs_converter
class TestTFLite:
    """The same of graphs for TensorFlow Lite, as the objects of their schema."""

    @pytest.mark.parametrize("role", ROLES)
    def test_large_weights_are_stored_half_once(self, role: str) -> None:
        fp32, fp16 = (graph("plus", f"{role}.{precision}.tflite") for precision in ("fp32", "fp16"))
        before, after = schema.ModelT.InitFromPackedBuf(fp32, 0), schema.ModelT.InitFromPackedBuf(fp16, 0)
        large = [buffer for buffer in before.buffers if size(buffer) >= 4 * SMALLEST]
        assert len(large) == {"encoder": 2, "decoder_step": len(LARGE_OF_STEP)}[role]
        saved = sum(size(buffer) // 2 for buffer in large)
        assert len(fp32) - len(fp16) == pytest.approx(saved, abs=6_000)  # which the casts and their tensors take
        stored = [(t.type, size(after.buffers[t.buffer])) for subgraph in after.subgraphs for t in subgraph.tensors]
        assert max(count for kind, count in stored if kind == TENSOR_TYPES.FLOAT32) < 4 * SMALLEST
        assert len(after.subgraphs) == len(before.subgraphs) == {"encoder": 1, "decoder_step": 2}[role]
        if role == "decoder_step":
            halves = [{half.buffer for half, _ in casts(subgraph)} for subgraph in after.subgraphs]
            assert halves[0] == halves[1] and len(halves[0]) == len(LARGE_OF_STEP) + 1  # with the bias of the gates

    @pytest.mark.parametrize("role", ROLES)
    def test_small_weights_keep_their_bytes(self, role: str) -> None:
        fp32, fp16 = (graph("plus", f"{role}.{precision}.tflite") for precision in ("fp32", "fp16"))
        before, after = schema.ModelT.InitFromPackedBuf(fp32, 0), schema.ModelT.InitFromPackedBuf(fp16, 0)
        for old, new in zip(before.subgraphs, after.subgraphs, strict=True):
            halved = {full.name for _, full in casts(new)}
            for tensor, same in zip(old.tensors, new.tensors, strict=False):  # what is stored half comes after them
                assert (tensor.name, list(shape(tensor)), tensor.type) == (same.name, list(shape(same)), same.type)
                if tensor.name not in halved:
                    contents = [model.buffers[t.buffer].data for model, t in ((before, tensor), (after, same))]
                    assert np.array_equal(*contents)

    @pytest.mark.parametrize("role", ROLES)
    def test_a_bias_goes_with_its_weight(self, role: str) -> None:
        model = schema.ModelT.InitFromPackedBuf(graph("plus", f"{role}.fp16.tflite"), 0)
        with_bias = []
        for subgraph in model.subgraphs:
            halved = [index_of(subgraph, full) for _, full in casts(subgraph)]
            products = [operator.inputs for operator in subgraph.operators if len(operator.inputs) == 3]
            with_bias += [bias in halved for _, weight, bias in products if weight in halved and bias >= 0]
        assert with_bias == [True] * {"encoder": 1, "decoder_step": 2}[role]

    def test_a_bias_that_a_small_product_shares_stays_fp32_for_it(self, tmp_path: Path) -> None:
        def edit(model: Any) -> None:
            for subgraph in model.subgraphs:
                product = product_of_words(subgraph)
                own = copy(subgraph.tensors[product.inputs[2]])
                own.name = b"bias of the words"
                subgraph.tensors.append(own)
                product.inputs = [*product.inputs[:2], len(subgraph.tensors) - 1]

        fp32, fp16 = tmp_path / "fp32.tflite", tmp_path / "fp16.tflite"
        fp32.write_bytes(edited(graph("plus", "decoder_step.fp32.tflite"), edit))
        store_half(fp32, fp16, "decoder_step")
        model = schema.ModelT.InitFromPackedBuf(fp16.read_bytes(), 0)
        for subgraph in model.subgraphs:
            bias = subgraph.tensors[product_of_words(subgraph).inputs[2]]
            assert (bias.name, bias.type, size(model.buffers[bias.buffer])) == (
                b"bias of the words",
                TENSOR_TYPES.FLOAT32,
                4 * V,
            )
        encoder = graph("plus", "encoder.fp32.tflite")
        one, other = (in_engine("tflite", encoder, path.read_bytes()) for path in (fp32, fp16))
        for feeds in step_samples("plus", count=1):
            assert_near_but_not_equal(stepped(one, feeds), stepped(other, feeds))

    @pytest.mark.parametrize("role", ROLES)
    def test_casts_come_first_and_buffers_are_aligned(self, role: str) -> None:
        content = graph("plus", f"{role}.fp16.tflite")
        assert content[4:8] == b"TFL3"
        file = np.frombuffer(content, np.uint8)
        packed = schema.Model.GetRootAs(content, 0)
        for number in range(packed.BuffersLength()):
            data = packed.Buffers(number).DataAsNumpy()
            if not isinstance(data, int):  # which an empty one's is
                assert (data.ctypes.data - file.ctypes.data) % 16 == 0
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        for subgraph in model.subgraphs:
            count = len(casts(subgraph))
            kinds = [model.operatorCodes[operator.opcodeIndex] for operator in subgraph.operators]
            assert {code.builtinCode for code in kinds[:count]} == {schema.BuiltinOperator.DEQUANTIZE}
            assert schema.BuiltinOperator.DEQUANTIZE not in {code.builtinCode for code in kinds[count:]}
            assert {code.version for code in kinds[:count]} == {3}  # of the format, which has FP16

    def test_what_fp16_cannot_hold_is_named(self, tmp_path: Path) -> None:
        def edit(model: Any) -> None:
            buffer = next(buffer for buffer in model.buffers if size(buffer) >= 4 * SMALLEST)
            buffer.data = buffer.data.copy()
            buffer.data.view(np.float32)[11] = -70_000

        path = tmp_path / "fp32.tflite"
        path.write_bytes(edited(graph("plus", "decoder_step.fp32.tflite"), edit))
        message = r"export failed at fp16 storage of decoder_step\.fp16: .+ holds 70000, beyond FP16's 65504"
        with pytest.raises(ExportError, match=message):
            store_half(path, tmp_path / "fp16.tflite", "decoder_step")
        assert not (tmp_path / "fp16.tflite").exists()

    def test_storing_twice_gives_the_same_file(self, tmp_path: Path) -> None:
        fp32 = write_graph(tmp_path, "plus", "decoder_step.fp32.tflite")
        store_half(fp32, tmp_path / "again", "decoder_step")
        assert (tmp_path / "again").read_bytes() == graph("plus", "decoder_step.fp16.tflite")


def size(buffer: Any) -> int:
    return 0 if buffer.data is None else len(buffer.data)


def shape(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(tensor.shape)


def index_of(subgraph: Any, tensor: Any) -> int:
    return next(index for index, other in enumerate(subgraph.tensors) if other is tensor)


def casts(subgraph: Any) -> list[tuple[Any, Any]]:
    """The tensors that are stored half, each with the fp32 tensor that is made of it."""
    pairs = [(operator.inputs[0], operator.outputs[0]) for operator in subgraph.operators]
    halves = [pair for pair in pairs if subgraph.tensors[pair[0]].type == TENSOR_TYPES.FLOAT16]
    return [(subgraph.tensors[half], subgraph.tensors[full]) for half, full in halves]


def product_of_words(subgraph: Any) -> Any:
    """The operator that multiplies with the weights (V, H) of the words and has a bias."""
    (product,) = [
        operator
        for operator in subgraph.operators
        if len(operator.inputs) == 3
        and operator.inputs[2] >= 0
        and shape(subgraph.tensors[operator.inputs[1]]) == (V, H)
    ]
    return product
