"""A graph that asks for data in other files, or for operators of others, is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import ROOT, edgecap, encoded
from edited_bundle import add_file
from golden_bundle import write_golden
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import Graphs, encoder_graph, step_constants, step_graph, write_tiny_bundle
from tiny_tflite import edited

from edgecap.errors import BundleError, UnsupportedGraphError
from edgecap.runtime import load
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.engines.onnx_scan import DOMAINS, foreign_in_onnx
from edgecap.runtime.engines.tflite_scan import foreign_in_tflite
from edgecap.runtime.verify.verification import verify

OTHER_FILE = "data that is kept in another file"
Edit = Callable[[Any], object]


def changed(graph: bytes, edit: Edit) -> bytes:
    model = onnx.load_from_string(graph)
    edit(model)
    content: bytes = model.SerializeToString()
    return content


def move_out(tensor: Any, location: str = "follows.bin") -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def outside(location: str) -> Edit:
    def edit(model: Any) -> None:
        move_out(next(tensor for tensor in model.graph.initializer if tensor.name == "follows"), location)

    return edit


def constant(model: Any) -> None:
    """The tensor of a node's attribute."""
    tensor = numpy_helper.from_array(step_constants()["follows"], "value")
    move_out(tensor)
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))


def branch(model: Any) -> None:
    """A tensor of a graph within an attribute."""
    inner = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "branch", [], [])
    inner.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "w"))
    move_out(inner.initializer[0])
    model.graph.node.append(helper.make_node("If", ["c"], ["unused"], then_branch=inner, else_branch=inner))


def sparse(model: Any) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    move_out(values)
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64), "i"), [4])
    )


def function(model: Any) -> None:
    node = helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(np.ones(1, np.float32), "v"))
    move_out(node.attribute[0].t)
    model.functions.append(helper.make_function("", "F", [], ["y"], [node], [helper.make_opsetid("", 17)]))


def training(model: Any) -> None:
    graph = helper.make_graph([], "training", [], [])
    graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "w"))
    move_out(graph.initializer[0])
    model.training_info.add().algorithm.CopyFrom(graph)


def custom(model: Any) -> None:
    model.graph.node[0].domain = "evil.corp"
    model.opset_import.append(helper.make_opsetid("evil.corp", 1))


def hidden_custom(model: Any) -> None:
    inner = helper.make_graph([helper.make_node("Steal", ["w"], ["y"], domain="evil.corp")], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["unused"], then_branch=inner, else_branch=inner))


EXTERNAL = (outside("follows.bin"), outside("/etc/hostname"), outside("../follows.bin"), constant, branch, sparse)


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        *((edit, OTHER_FILE) for edit in (*EXTERNAL, function, training)),
        (outside("*/_ORT_MEM_ADDR_/*"), OTHER_FILE),  # by which ONNX Runtime means an address in its memory
        (custom, "the operator 'Transpose' of the domain 'evil.corp'"),
        (hidden_custom, "the operator 'Steal' of the domain 'evil.corp'"),
    ],
)
def test_an_onnx_graph_with_something_foreign_is_refused(tmp_path: Path, edit: Edit, what: str) -> None:
    foreign = (encoder_graph(), changed(step_graph(), edit))
    bundle = write_tiny_bundle(tmp_path / "bundle", {"int8": foreign, "fp32": (encoder_graph(), step_graph())})
    problem = f"{bundle / 'decoder_step.int8.onnx'}: holds {what}: "
    with pytest.raises(BundleError, match=re.escape(problem)) as caught:
        load(bundle)
    assert not isinstance(caught.value, UnsupportedGraphError)  # nor is it replaced by another precision
    assert load(bundle, precision="fp32").caption(encoded("red")).text == "A red photo."


def test_data_beside_the_working_directory_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ONNX Runtime itself would find it."""
    (tmp_path / "follows.bin").write_bytes(step_constants()["follows"].tobytes())
    monkeypatch.chdir(tmp_path)
    foreign = (encoder_graph(), changed(step_graph(), outside("follows.bin")))
    code, out, err = edgecap("caption", "--bundle", write_tiny_bundle(tmp_path / "bundle", {"fp32": foreign}), "a.jpg")
    assert (code, out, len(err)) == (1, [], 1) and f"decoder_step.fp32.onnx: holds {OTHER_FILE}" in err[0]


def test_verify_says_so_of_the_graphs_and_checks_the_others(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    write_golden(bundle)
    add_file(bundle, "decoder_step.int8.onnx", "graph", changed(step_graph(), custom))
    by_precision = {check.precision: check for check in verify(bundle, engine="onnx") if check.check == "graphs"}
    assert by_precision["fp32"].status == "ok" and by_precision["int8"].status == "failed"
    assert "decoder_step.int8.onnx: holds the operator" in by_precision["int8"].detail


def test_graphs_of_ours_hold_nothing_foreign() -> None:
    graphs = [*(ROOT / "models").glob("*/bundle/*.onnx")]
    assert graphs and not any(foreign_in_onnx(graph.read_bytes()) for graph in graphs)


def test_what_others_may_read_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = step_graph()
    group = bytes([0x2B, 0x2C])  # field 5, from a group's begin to its end
    long_tag = bytes([0xBA, 0x80, 0x80, 0x80, 0x10, 0x00])  # field 7, for a reader that keeps 32 bits of it
    for odd in (group, long_tag):
        assert foreign_in_onnx(graph + odd) == "fields that ONNX does not have"
    monkeypatch.setattr("edgecap.runtime.engines.onnx_scan.MAX_FIELDS", 2000)
    assert foreign_in_onnx(bytes([0x08, 0x00]) * 2001) == "more than 2,000 fields"
    for torn in (b"", b"\x3a", b"\x3a\x7f", b"\xff" * 20, graph[:-3], b"\x00", b"\x0f"):
        assert foreign_in_onnx(torn) is None  # no reader takes it


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*EXTERNAL, function, training, custom, hidden_custom]), st.data())
def test_damage_does_not_hide_what_is_foreign(edit: Edit, data: st.DataObject) -> None:
    """What the library of ONNX still reads and finds foreign, this finds too."""
    content = bytearray(changed(step_graph(), edit))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        model = onnx.load_from_string(bytes(content))
    except DecodeError:
        return
    if any(map(is_foreign, messages(model))):
        assert foreign_in_onnx(bytes(content)) is not None


def is_foreign(message: Any) -> bool:
    if isinstance(message, onnx.TensorProto):
        return bool(message.data_location)
    return isinstance(message, onnx.NodeProto) and message.domain not in DOMAINS


def messages(message: Any) -> list[Any]:
    """A message of a protocol buffer, and all within it."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is not None:
            parts = [value] if hasattr(value, "ListFields") else value
            found += [inner for part in parts for inner in messages(part)]
    return found


def custom_operator(name: str) -> Edit:
    def edit(model: Any) -> None:
        code = model.operatorCodes[0]
        code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, name

    return edit


def external_buffer(model: Any) -> None:
    from ai_edge_litert.schema_py_generated import ExternalBufferGroupT

    group = ExternalBufferGroupT()
    group.name = "weights.bin"
    model.externalBufferGroups = [group]


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (custom_operator("Steal"), "the custom operator 'Steal'"),
        (custom_operator("FlexErf"), "the TensorFlow operator 'FlexErf'"),
        (external_buffer, OTHER_FILE),
    ],
)
def test_a_tflite_graph_with_something_foreign_is_refused(
    tflite_graphs: Graphs, tmp_path: Path, edit: Edit, what: str
) -> None:
    encoder, step = tflite_graphs["fp32"]
    bundle = write_tiny_bundle(tmp_path / "bundle", onnx={}, tflite={"fp32": (edited(encoder, edit), step)})
    with pytest.raises(BundleError, match=re.escape(f"{bundle / 'encoder.fp32.tflite'}: holds {what}: ")) as caught:
        load(bundle)
    assert not isinstance(caught.value, UnsupportedGraphError)


def test_tflite_graphs_of_ours_hold_nothing_foreign(tflite_graphs: Graphs, two_runtimes: Path) -> None:
    assert [foreign_in_tflite(graph) for pair in tflite_graphs.values() for graph in pair] == [None] * 4
    opened = Bundle.open(two_runtimes)
    read = opened.read_graphs(opened.graph_set("tflite", "int8"))
    assert (read["encoder"].content, read["decoder_step"].content) == tflite_graphs["int8"]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_tflite_graph_is_scanned_to_an_end(tflite_graphs: Graphs, data: st.DataObject) -> None:
    content = bytearray(tflite_graphs["fp32"][0])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(st.integers(0, 255))
    found = foreign_in_tflite(bytes(content[: data.draw(st.integers(0, len(content)))]))
    assert found is None or found.isprintable()
