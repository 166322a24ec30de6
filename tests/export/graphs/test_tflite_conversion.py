"""TensorFlow Lite graphs made of the ONNX ones: the same functions, in operators that small engines have."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from conftest import ROOT
from converted import (
    HYPOTHESES,
    LITE_STAGES,
    SHUFFLE_STAGES,
    arrays,
    encoder_samples,
    graph,
    images,
    in_engine,
    step_samples,
    stepped,
    write_graph,
)
from exported import needs_converter
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from edgecap.errors import ExportError, MissingExtraError
from edgecap.export.exporter import ExportRequest, export_bundle
from edgecap.export.graphs import tflite
from edgecap.export.graphs.tflite import convert, require_converter
from edgecap.export.recipe import ExportRecipe
from edgecap.runtime.engines.engine import Encoded, Engine, Step
from edgecap.runtime.engines.litert_engine import GraphTensor

pytestmark = pytest.mark.usefixtures("one_torch_thread")

PRESETS = ("plus", "base")
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
BLOCKS = sum(units for units, *_ in LITE_STAGES)
KINDS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
TYPES = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}


ENCODER_OUTPUTS = ("memory.features", "memory.keys", "state.h", "state.c")


@dataclass(frozen=True)
class Operator:
    """An operator of a TensorFlow Lite graph, with the types and shapes of all that it takes and gives."""

    kind: str
    version: int
    types: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]


def operators(content: bytes, subgraph: int = 0) -> list[Operator]:
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    found = []
    for operator in model.subgraphs[subgraph].operators:
        code = model.operatorCodes[operator.opcodeIndex]
        numbers = [number for number in (*operator.inputs, *operator.outputs) if number >= 0]
        tensors = [model.subgraphs[subgraph].tensors[number] for number in numbers]
        shapes = tuple(() if tensor.shape is None else tuple(map(int, tensor.shape)) for tensor in tensors)
        kind = KINDS[max(code.builtinCode, code.deprecatedBuiltinCode)]
        found.append(Operator(kind, code.version, tuple(TYPES[tensor.type] for tensor in tensors), shapes))
    return found


def engines(preset: str, precision: str = "fp32") -> tuple[Engine, Engine]:
    reference = in_engine("onnx", graph(preset, "encoder.fp32.onnx"), graph("plus", "decoder_step.fp32.onnx"))
    step = graph("plus", f"decoder_step.{precision}.tflite")
    return reference, in_engine("tflite", graph(preset, f"encoder.{precision}.tflite"), step)


def assert_near(wanted: Encoded | Step, found: Encoded | Step, tolerance: float = 1e-4) -> None:
    for name, value in arrays(wanted).items():
        np.testing.assert_allclose(arrays(found)[name], value, rtol=0, atol=tolerance, err_msg=name)
        assert value.std() > 1e-3


def snr(wanted: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.square(wanted).mean() / np.square(wanted - found).mean()))


@needs_converter
class TestGraphs:
    """What comes out of a conversion."""

    @pytest.mark.parametrize("preset", PRESETS)
    def test_the_fp32_encoder_is_the_same_function(self, preset: str) -> None:
        reference, converted = engines(preset)
        photos = np.concatenate(images(3, seed=5))
        assert_near(reference.encode(photos), converted.encode(photos))

    def test_the_fp32_step_is_the_same_function(self) -> None:
        reference, converted = engines("plus")
        for hypotheses in (1, 4, 5, 7):  # in the signatures of 1 and of 5, and in both
            for feeds in step_samples("plus", hypotheses=hypotheses, count=2):
                assert_near(stepped(reference, feeds), stepped(converted, feeds))

    def test_signatures_are_by_the_number_of_hypotheses(self, tmp_path: Path) -> None:
        for role, signatures in (("encoder", ["encoder"]), ("decoder_step", ["decoder_step_1", "decoder_step_5"])):
            for precision in ("fp32", "int8"):
                path = write_graph(tmp_path, "plus", f"{role}.{precision}.tflite")
                assert list(Interpreter(model_path=str(path)).get_signature_list()) == signatures

    def test_signatures_share_their_weights(self) -> None:
        content = graph("plus", "decoder_step.fp32.tflite")
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        used = [{t.buffer for t in subgraph.tensors if is_weight(model, t)} for subgraph in model.subgraphs]
        assert used[0] == used[1] and len(used[0]) >= 7
        assert len(content) < 1.1 * len(graph("plus", "decoder_step.fp32.onnx"))

    @pytest.mark.parametrize("precision", ["fp32", "int8"])
    def test_the_encoder_of_plus_has_an_operator_a_layer_and_nothing_in_between(self, precision: str) -> None:
        found = Counter(operator.kind for operator in operators(graph("plus", f"encoder.{precision}.tflite")))
        residual = BLOCKS - len(LITE_STAGES)
        # A block's three convolutions, of which the first has no expansion; stem and head.
        assert found == {
            "CONV_2D": 2 * BLOCKS - 1 + 2,
            "DEPTHWISE_CONV_2D": BLOCKS,
            "ADD": residual,
            "RESHAPE": 1,
            "FULLY_CONNECTED": 4,  # features, keys, h0, c0
            "MEAN": 1,
            "TANH": 2,
        }

    @pytest.mark.parametrize("precision", ["fp32", "int8"])
    def test_the_encoder_of_base_has_no_shuffles(self, precision: str) -> None:
        found = operators(graph("base", f"encoder.{precision}.tflite"))
        assert max(len(shape) for operator in found for shape in operator.shapes) == 4
        kinds = Counter(operator.kind for operator in found)
        units = sum(count for count, _ in SHUFFLE_STAGES)
        assert kinds["TRANSPOSE"] == kinds["SPLIT"] == kinds["GATHER"] == 0
        assert kinds["QUANTIZE"] == 0  # all that is concatenated has one scale
        assert kinds["RESHAPE"] == 1  # the map as locations
        assert kinds["CONCATENATION"] == units  # what each unit but the first of a stage reads, and its end
        assert kinds["DEPTHWISE_CONV_2D"] == units + len(SHUFFLE_STAGES)  # both branches where the stride is 2
        assert kinds["CONV_2D"] == 2 * units + len(SHUFFLE_STAGES) + 2

    @pytest.mark.parametrize("preset", PRESETS)
    def test_the_int8_encoder_is_int8_from_end_to_end(self, preset: str, tmp_path: Path) -> None:
        path = write_graph(tmp_path, preset, "encoder.int8.tflite")
        found = operators(path.read_bytes())
        integers = {"INT8", "INT32"}  # INT32: biases, and the shapes of pads and slices
        assert {kind for operator in found for kind in operator.types} == integers
        runner = Interpreter(model_path=str(path)).get_signature_runner("encoder")
        details = (*runner.get_input_details().values(), *runner.get_output_details().values())
        assert {np.dtype(detail["dtype"]) for detail in details} == {np.dtype(np.int8)}
        assert all(detail["quantization"][0] > 0 for detail in details)

    @pytest.mark.parametrize("preset", PRESETS)
    def test_the_int8_encoder_says_nearly_what_fp32_says(self, preset: str) -> None:
        reference, converted = engines(preset, "int8")
        photos = np.concatenate(images(3, seed=5))
        wanted, found = reference.encode(photos), converted.encode(photos)
        noise = {name: snr(value, arrays(found)[name]) for name, value in arrays(wanted).items()}
        assert min(noise.values()) > 7, noise

    def test_the_int8_step_says_nearly_what_fp32_says(self) -> None:
        reference, converted = engines("plus", "int8")
        for feeds in step_samples("plus", count=2):
            wanted, found = stepped(reference, feeds), stepped(converted, feeds)
            noise = {name: snr(value, arrays(found)[name]) for name, value in arrays(wanted).items()}
            assert min(noise.values()) > 25, noise

    @pytest.mark.parametrize(("role", "products"), [("encoder", 3 * BLOCKS - 1 + 2 + 4), ("decoder_step", 5)])
    def test_rounded_weights_are_quantized_without_further_error(self, role: str, products: int) -> None:
        rounded = onnx.load_from_string(graph("plus", f"{role}.rounded.onnx")).graph.initializer
        wanted = [numpy_helper.to_array(tensor) for tensor in rounded]
        wanted = [other for weight in wanted for other in orders(weight)]
        found = int8_weights(graph("plus", f"{role}.int8.tflite"))
        assert len(found) == products
        for value in found:
            distances = [np.abs(other - value).max() for other in wanted if other.shape == value.shape]
            assert min(distances) < 1e-5 * np.abs(value).max()  # a tenth of a per cent of a step

    def test_the_int8_step_runs_where_the_format_is_older(self) -> None:
        """Version 9 of FULLY_CONNECTED is the last that tflite-runtime 2.14 has; 12 brings a scale for each channel."""
        content = graph("plus", "decoder_step.int8.tflite")
        for subgraph in range(len(HYPOTHESES)):
            found = operators(content, subgraph)
            products = [operator for operator in found if operator.kind == "FULLY_CONNECTED"]
            assert len(products) == 6 and max(product.version for product in products) <= 9
            stored = Counter("INT8" in product.types for product in products)
            assert stored == {True: 5, False: 1}  # the energies have too few weights for it
            assert "TRANSPOSE" not in {operator.kind for operator in found}
        assert len(content) < 0.3 * len(graph("plus", "decoder_step.fp32.tflite"))


def is_weight(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return TYPES[tensor.type] == "FLOAT32" and data is not None and len(data) > 64


def orders(weight: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """What (O, I, h, w) is for a convolution and a depthwise one; a matrix as it is and transposed."""
    if weight.ndim == 4:
        return [weight.transpose(0, 2, 3, 1), weight.transpose(1, 2, 3, 0)]
    return [weight, weight.T]


def int8_weights(content: bytes) -> list[NDArray[np.float64]]:
    """The weights of the products of a graph's first signature that are INT8, as real numbers."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    found = []
    for operator in model.subgraphs[0].operators:
        code = model.operatorCodes[operator.opcodeIndex]
        tensor = model.subgraphs[0].tensors[operator.inputs[min(1, len(operator.inputs) - 1)]]
        data = model.buffers[tensor.buffer].data
        if KINDS[code.builtinCode] in PRODUCTS and TYPES[tensor.type] == "INT8" and data is not None:
            scales, axis = tensor.quantization.scale, tensor.quantization.quantizedDimension
            along = [-1 if n == axis else 1 for n in range(len(tensor.shape))] if len(scales) > 1 else []
            found.append(data.view(np.int8).reshape(tensor.shape) * scales.astype(np.float64).reshape(along))
    return found


# Child processes with this on their path keep a record of what they ask of the network, and get nothing.
NO_NETWORK = """
import os, sys
from pathlib import Path

record = Path(os.environ["NETWORK_RECORD"])

def say(line):
    with record.open("a") as file:
        file.write(line + "\\n")

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        say(f"{event} {arguments}")
        raise OSError("there is no network here")

sys.addaudithook(refuse)
say("started")
"""


@pytest.fixture
def lonely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where there is no network: the record of what processes ask of it. Folders for work and scratch are empty."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(NO_NETWORK)
    for name in ("work", "scratch"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    monkeypatch.setenv("NETWORK_RECORD", str(tmp_path / "record"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)  # which it keeps
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "record"


def test_a_process_without_network_says_what_it_asks(lonely: Path) -> None:
    code = f"import socket; socket.create_connection(('127.0.0.1', {free_port()}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 1
    assert lonely.read_text().splitlines()[0] == "started"
    assert lonely.read_text().splitlines()[1].startswith("socket.")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@needs_converter
@pytest.mark.parametrize("role", ["encoder", "decoder_step"])
def test_converting_again_gives_the_same_bytes_asks_nobody_and_leaves_nothing(
    role: str, lonely: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another folder, process and order of hashes."""
    first = graph("plus", f"{role}.int8.tflite")
    (tmp_path / "out").mkdir()
    source, target = write_graph(tmp_path, "plus", f"{role}.rounded.onnx"), tmp_path / "out" / "again.tflite"
    lonely.unlink(missing_ok=True)
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    if role == "encoder":
        convert(source, target, role, (), "static", encoder_samples())
    else:
        convert(source, target, role, (5, 1, 5), "dynamic")  # in any order
    assert target.read_bytes() == first
    assert lonely.read_text() == "started\n"
    assert not any((tmp_path / "work").iterdir()) and not any((tmp_path / "scratch").iterdir())
    assert list((tmp_path / "out").iterdir()) == [target]


def write_encoder(path: Path, nodes: list[Any], side: int = 8, **constants: NDArray[Any]) -> Path:
    """A graph with an encoder's inputs and outputs: what the nodes do not make is the image with another sign."""
    made = {output for node in nodes for output in node.output}
    rest = [helper.make_node("Neg", ["image"], [name], f"node_{name}") for name in ENCODER_OUTPUTS if name not in made]
    body = helper.make_graph(
        [*nodes, *rest],
        "encoder",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ENCODER_OUTPUTS],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)]
    onnx.save_model(helper.make_model(body, opset_imports=opsets, ir_version=9), path)
    return path


def pooled(activation: str) -> list[Any]:
    """An activation and a maximum of what it makes, padded on one side more than on the other."""
    window: dict[str, Any] = {"pads": [1, 0, 1, 1], "kernel_shape": [3, 3], "strides": [2, 2]}
    return [
        helper.make_node(activation, ["image"], ["active"], "node_active"),
        helper.make_node("MaxPool", ["active"], ["memory.features"], "node_maximum", **window),
    ]


@needs_converter
def test_padding_of_a_maximum_does_not_set_the_steps_of_int8(tmp_path: Path) -> None:
    """onnx2tf pads with the least float. The maximum of what no ReLU made may be below zero."""
    source, target = write_encoder(tmp_path / "encoder.onnx", pooled("LeakyRelu")), tmp_path / "encoder.tflite"
    photos = [-np.abs(np.random.default_rng(seed).standard_normal((1, 3, 8, 8), np.float32)) for seed in range(4)]
    convert(source, target, "encoder", (), "static", ({"image": photo} for photo in photos))
    session = InferenceSession(source.read_bytes(), providers=["CPUExecutionProvider"])
    runner = Interpreter(model_path=str(target)).get_signature_runner("encoder")
    image, made = runner.get_input_details()["image"], runner.get_output_details()
    features = GraphTensor.of(made["memory.features"])
    for photo in photos:
        (wanted,) = session.run(["memory.features"], {"image": photo})
        found = runner(image=GraphTensor.of(image).numbers(photo.transpose(0, 2, 3, 1)))["memory.features"]
        np.testing.assert_allclose(features.real(found).transpose(0, 3, 1, 2), wanted, rtol=0, atol=2e-3)
        assert wanted.max() < 0


@needs_converter
def test_an_operator_that_onnx2tf_does_not_know_is_named_with_its_node(tmp_path: Path) -> None:
    node = helper.make_node("Sparkle", ["image"], ["memory.features"], "node_sparkle", domain="com.example")
    message = r"^export failed at onnx2tf of encoder: node node_sparkle: .*Sparkle"
    with pytest.raises(ExportError, match=message) as raised:
        convert(write_encoder(tmp_path / "encoder.onnx", [node]), tmp_path / "encoder.tflite", "encoder", (), "float")
    assert (raised.value.stage, raised.value.graph) == ("onnx2tf", "encoder")
    assert not (tmp_path / "encoder.tflite").exists()


@needs_converter
def test_an_operator_that_tensorflow_lite_does_not_have_is_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["image", "matrices"], ["rows"], "node_rows"),
        helper.make_node("Det", ["rows"], ["memory.features"], "node_determinant"),
    ]
    source = write_encoder(tmp_path / "encoder.onnx", nodes, matrices=np.array([3, 8, 8]))
    message = r"^export failed at the TensorFlow Lite converter of encoder: .*MatrixDeterminant"
    with pytest.raises(ExportError, match=message):
        convert(source, tmp_path / "encoder.tflite", "encoder", (), "float")
    assert not (tmp_path / "encoder.tflite").exists()


@pytest.fixture
def fake_onnx2tf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs an onnx2tf whose ``convert`` does what it is told, in Python; ``onnx_graph`` is what it is given."""

    def install(code: str) -> None:
        package = tmp_path / "path" / "onnx2tf"
        package.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"    {line}\n" for line in code.splitlines())
        package.joinpath("__init__.py").write_text(
            f"import os, signal, sys, time\nfrom types import SimpleNamespace\n\n"
            f"def convert(onnx_graph, **options):\n{lines}"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))

    return install


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return write_encoder(tmp_path / "encoder.onnx", [])


EXITS_AT_A_NODE = "for graph_node in [SimpleNamespace(name='node_7')]:\n    print('ERROR: not so')\n    sys.exit(1)"
RAISES_AT_A_NODE = (
    "for graph_node in [SimpleNamespace(name='node_7')]:\n    raise ValueError('no\\nsuch \\x1b[31mthing\\x1b[0m')"
)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("sys.exit(3)", "onnx2tf of encoder: it exited with 3"),
        (EXITS_AT_A_NODE, "onnx2tf of encoder: node node_7: it exited with 1"),
        (RAISES_AT_A_NODE, "onnx2tf of encoder: node node_7: no such thing"),
        ("print('{} of stdout'); raise KeyError('tensor')", "onnx2tf of encoder: 'tensor'"),
        ("import tensorflow_of_another_kind", "onnx2tf of encoder: No module named 'tensorflow_of_another_kind'"),
        ("import recipe", "onnx2tf of encoder: No module named 'recipe'"),  # there is one beside the program
        ("os.kill(os.getpid(), signal.SIGKILL)", "conversion to TFLite of encoder: stopped by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "conversion to TFLite of encoder: stopped by SIGSEGV"),
        ("os.write(2, b'first\\nthe reason\\n'); os._exit(7)", "conversion to TFLite of encoder: the reason"),
        ("os._exit(7)", "conversion to TFLite of encoder: no reason given"),
    ],
)
def test_however_onnx2tf_ends_the_export_says_why(
    code: str, said: str, fake_onnx2tf: Callable[[str], None], encoder: Path, tmp_path: Path
) -> None:
    fake_onnx2tf(code)
    with pytest.raises(ExportError) as raised:
        convert(encoder, tmp_path / "encoder.tflite", "encoder", (), "float")
    assert str(raised.value) == f"export failed at {said}"
    assert not (tmp_path / "encoder.tflite").exists()


def test_a_failure_of_the_step_names_the_step(fake_onnx2tf: Callable[[str], None], tmp_path: Path) -> None:
    fake_onnx2tf("sys.exit(3)")
    source = write_graph(tmp_path, "plus", "decoder_step.fp32.onnx")
    with pytest.raises(ExportError, match=r"export failed at onnx2tf of decoder_step: it exited with 3"):
        convert(source, tmp_path / "step.tflite", "decoder_step", HYPOTHESES, "float")


def test_an_interpreter_that_cannot_be_started_is_a_named_failure(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
    with pytest.raises(ExportError, match=r"onnx2tf of encoder: its process cannot be started: No such file"):
        convert(encoder, tmp_path / "encoder.tflite", "encoder", (), "float")


def test_nothing_of_a_failed_conversion_is_left(
    lonely: Path, fake_onnx2tf: Callable[[str], None], encoder: Path, tmp_path: Path
) -> None:
    fake_onnx2tf("open('left', 'w').close(); sys.exit(1)")
    with pytest.raises(ExportError):
        convert(encoder, tmp_path / "encoder.tflite", "encoder", (), "float")
    assert not any((tmp_path / "work").iterdir()) and not any((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Neg"])
def test_onnx2tf_is_given_the_same_function_with_nothing_to_pad_in_maxima(
    activation: str, fake_onnx2tf: Callable[[str], None], tmp_path: Path
) -> None:
    fake_onnx2tf(f"import onnx; onnx.save(onnx_graph, {str(tmp_path / 'given.onnx')!r}); sys.exit()")
    source = write_encoder(tmp_path / "encoder.onnx", pooled(activation))
    with pytest.raises(ExportError):
        convert(source, tmp_path / "encoder.tflite", "encoder", (), "float")
    given = onnx.load_model(tmp_path / "given.onnx")
    onnx.checker.check_model(given, full_check=True)
    (maximum,) = [node for node in given.graph.node if node.op_type == "MaxPool"]
    assert {a.name: list(a.ints) for a in maximum.attribute}["pads"] == [0, 0, 0, 0]
    feeds = {"image": np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32) - 1}
    results = []
    for path in (source, tmp_path / "given.onnx"):
        session = InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        results.append(session.run(list(ENCODER_OUTPUTS), feeds))
    for wanted, found in zip(*results, strict=True):
        assert np.array_equal(wanted, found)


def test_onnx2tf_is_given_steps_of_fixed_shapes(fake_onnx2tf: Callable[[str], None], tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    name = f"os.path.join({str(given)!r}, str(len(os.listdir({str(given)!r}))))"
    fake_onnx2tf(f"import onnx; onnx.save(onnx_graph, {name}); len(os.listdir({str(given)!r})) < 2 or sys.exit()")
    with pytest.raises(ExportError):
        source = write_graph(tmp_path, "plus", "decoder_step.fp32.onnx")
        convert(source, tmp_path / "step.tflite", "decoder_step", (7, 1, 7), "float")
    shapes = []
    for path in sorted(given.iterdir()):
        values = {value.name: value for value in onnx.load_model(path).graph.input}
        axes = [axis for value in values.values() for axis in value.type.tensor_type.shape.dim]
        assert not any(axis.dim_param for axis in axes)
        shapes.append([axis.dim_value for axis in values["token"].type.tensor_type.shape.dim])
    assert shapes == [[1, 1], [1, 7]]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems let children live on")
def test_an_export_that_is_killed_takes_its_conversion_with_it(
    fake_onnx2tf: Callable[[str], None], encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "started"
    fake_onnx2tf(f"open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((os.environ["PYTHONPATH"], str(ROOT))))
    code = "import sys; from pathlib import Path; from edgecap.export.graphs.tflite import convert\n"
    code += "convert(Path(sys.argv[1]), Path(sys.argv[2]), 'encoder', (), 'float')"
    arguments = (str(encoder), str(tmp_path / "encoder.tflite"))
    with subprocess.Popen([sys.executable, "-c", code, *arguments]) as export:
        wait_for(lambda: started.is_file() and started.read_text() != "")
        conversion = int(started.read_text())
        os.kill(conversion, 0)  # it lives
        export.kill()
    assert export.returncode == -signal.SIGKILL
    wait_for(lambda: not lives(conversion))


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("library", ["onnx2tf", "tensorflow"])
def test_without_the_converter_the_extra_is_named_before_any_work(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = {"onnx2tf", "tensorflow"} - {library}
    monkeypatch.setattr(tflite, "find_spec", lambda name: object() if name in present else None)
    monkeypatch.setattr(sys, "version_info", (3, 11, 9))
    with pytest.raises(MissingExtraError, match=rf"^{library} is not installed: run  pip install 'edgecap\[export\]'$"):
        require_converter()
    recipe = ExportRecipe(engines=("tflite",), precisions=("fp32",))
    with pytest.raises(MissingExtraError):
        export_bundle(ExportRequest(tmp_path / "no checkpoint", tmp_path / "bundle", recipe), print)
    assert not any(tmp_path.iterdir())

    monkeypatch.setattr(sys, "version_info", (3, 12, 0))  # for which the extra has none
    with pytest.raises(ExportError, match=rf"of encoder: {library} is not installed, .* Python 3\.11 only: .*--onnx$"):
        require_converter()


@needs_converter
def test_libraries_that_are_blocked_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    require_converter()
    for library in ("tensorflow", "onnx2tf"):  # the first of the two is told of
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(MissingExtraError if sys.version_info < (3, 12) else ExportError, match=library):
            require_converter()
