"""Bundles of strangers end in one typed line, whatever their graphs give; and verify outlives their engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import edgecap, encoded
from golden_bundle import edit_golden, write_golden
from onnx import TensorProto, helper, numpy_helper
from places import CASES
from test_foreign_graphs import changed, custom_operator
from tiny_bundle import Graphs, encoder_graph, step_graph, write_tiny_bundle
from tiny_tflite import edited

from edgecap.errors import BundleError, EngineError
from edgecap.runtime import load
from edgecap.runtime.engines.tflite_scan import foreign_in_tflite
from edgecap.runtime.machine.other_process import run_python
from edgecap.runtime.verify.verification import verify

ATTACK = CASES / "attack"
Edit = Callable[[Any], object]


def output_of(name: str, operator: str, *inputs: str, **attributes: Any) -> Edit:
    """Makes the output ``name`` of this operator, whose further inputs are numbers; its shape is left open."""

    def edit(model: Any) -> None:
        graph = model.graph
        (node,) = (node for node in graph.node if name in node.output)
        node.output[list(node.output).index(name)] = "inner"
        graph.node.append(helper.make_node(operator, ["inner", *inputs], [name], **attributes))
        (output,) = (output for output in graph.output if output.name == name)
        kind = TensorProto.STRING if attributes.get("to") == TensorProto.STRING else TensorProto.FLOAT
        output.CopyFrom(helper.make_empty_tensor_value_info(name))
        output.type.tensor_type.elem_type = kind
        for constant, value in (("one", 1e9), ("big", np.inf)):
            graph.initializer.append(numpy_helper.from_array(np.float32(value), constant))
        for constant, axes in (("all", [-1]), ("no", [0]), ("few", [2]), ("last", [2])):
            graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), constant))

    return edit


@pytest.mark.parametrize(
    ("role", "edit", "problem"),
    [
        ("step", output_of("log_probs", "Add", "one"), r"log-probabilities that are none: 1e\+09"),
        ("step", output_of("log_probs", "Add", "big"), "log-probabilities that are none: inf"),
        (
            "step",
            output_of("log_probs", "Reshape", "all"),
            r"log_probs as float32 \(None\), its",
        ),
        (
            "step",
            output_of("log_probs", "Slice", "no", "few", "last"),
            r"log_probs as float32 \(N, K, 2\)",
        ),
        (
            "step",
            output_of("log_probs", "Cast", to=TensorProto.STRING),
            "log_probs as string ",
        ),
        ("step", output_of("next.h", "ReduceSum", keepdims=0), r"next\.h as float32 \(\), its manifest lists"),
        ("step", output_of("attention", "Reshape", "all"), r"attention as float32 \(None\), its manifest lists"),
        (
            "encoder",
            output_of("state.h", "ReduceMean", keepdims=0),
            r"state\.h as float32 \(\), its manifest lists",
        ),
        (
            "encoder",
            output_of("memory.features", "Concat", "inner", axis=0),
            r"memory\.features as float32 \(2, 4, 3\), its manifest lists",
        ),
    ],
)
def test_outputs_that_do_not_fit_are_one_line(tmp_path: Path, role: str, edit: Edit, problem: str) -> None:
    encoder, step = encoder_graph(), step_graph()
    pair = (changed(encoder, edit), step) if role == "encoder" else (encoder, changed(step, edit))
    bundle = write_tiny_bundle(tmp_path / "bundle", {"fp32": pair})
    for photos in (1, 2):
        with pytest.raises(EngineError, match=problem) as caught, load(bundle) as captioner:
            captioner.caption_batch([encoded("red")] * photos)
        assert "\n" not in str(caught.value)


def test_sizes_are_those_of_the_manifest(tmp_path: Path) -> None:
    """They fit each other, but not what the bundle says of them."""
    graphs = {"fp32": (changed(encoder_graph(), output_of("memory.keys", "Concat", "inner", axis=2)), step_graph())}
    with pytest.raises(
        EngineError, match=r"memory\.keys as float32 \(1, 4, 6\), its manifest lists float32 \(1, 4, 3\)"
    ):
        load(write_tiny_bundle(tmp_path / "bundle", graphs))


def test_sizes_that_nothing_tells_before_are_found_by_the_first_run(tmp_path: Path) -> None:
    """The graph leaves open how many of the rows it makes are not zero."""

    def edit(model: Any) -> None:
        output_of("memory.keys", "Compress", "few_rows", axis=1)(model)
        rows = numpy_helper.from_array(np.array([True, False, True, False]), "few_rows")
        model.graph.initializer.append(rows)
        (output,) = (output for output in model.graph.output if output.name == "memory.keys")
        output.type.tensor_type.shape.CopyFrom(helper.make_tensor_type_proto(1, (1, "rows", 3)).tensor_type.shape)

    captioner = load(write_tiny_bundle(tmp_path / "bundle", {"fp32": (changed(encoder_graph(), edit), step_graph())}))
    with pytest.raises(EngineError, match=r"the graph made memory\.keys \(1, 2, 3\), not \(1, 4, 3\)"):
        captioner.caption(encoded("red"))


def broken_external_buffers(content: bytes) -> bytes:
    """A field before the operators leads out of the file: a scan that stops there never sees them."""

    def number(where: int, size: int = 4) -> int:
        return int.from_bytes(content[where : where + size], "little")

    table = number(0)
    fields = table - int.from_bytes(content[table : table + 4], "little", signed=True)
    field = fields + 4 + 2 * 8  # external_buffer_groups
    assert number(field, 2)
    where = table + number(field, 2)
    return content[:where] + (2**31).to_bytes(4, "little") + content[where + 4 :]


def empty_external_groups(model: Any) -> None:
    custom_operator("FlexWriteFile")(model)
    model.externalBufferGroups = []


def test_a_broken_field_hides_no_operator(tflite_graphs: Graphs, tmp_path: Path) -> None:
    encoder, step = tflite_graphs["fp32"]
    hidden = broken_external_buffers(edited(encoder, empty_external_groups))
    assert foreign_in_tflite(hidden) == "a structure that ends outside of its file"
    bundle = write_tiny_bundle(tmp_path / "bundle", onnx={}, tflite={"fp32": (hidden, step)})
    with pytest.raises(BundleError, match="holds a structure that ends outside of its file"):
        load(bundle)


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda m: setattr(m.subgraphs[0].operators[0], "opcodeIndex", 99), "an operator's code"),
        (lambda m: setattr(m.subgraphs[0].operators[0], "inputs", [0, 77]), "a list of tensors"),
        (lambda m: setattr(m.subgraphs[0].operators[0], "outputs", [-1]), "a list of tensors"),
        (lambda m: setattr(m.subgraphs[0], "inputs", [500]), "a list of tensors"),
        (lambda m: setattr(m.subgraphs[0].tensors[0], "buffer", 1000), "a tensor's buffer"),
        (lambda m: setattr(m.subgraphs[0].tensors[0], "shape", [1, -5]), "a tensor's shape"),
        (lambda m: setattr(m.subgraphs[0].tensors[0], "shape", [2**20, 2**20]), "a tensor's size"),
        (lambda m: setattr(m.signatureDefs[0], "subgraphIndex", 7), "a signature's graph"),
        (lambda m: setattr(m.signatureDefs[0].inputs[0], "tensorIndex", 2**31), "a signature's tensor"),
        (lambda m: m.subgraphs[0].operators.reverse(), "an operator that reads what is not made yet"),
    ],
)
def test_numbers_that_name_nothing_are_refused(tflite_graphs: Graphs, edit: Edit, what: str) -> None:
    assert foreign_in_tflite(edited(tflite_graphs["fp32"][0], edit)) == (
        f"a structure that does not fit into its file ({what})"
    )


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    write_golden(bundle)
    return bundle


KILLER = """
import json, os, signal, sys
from edgecap.runtime.engines import onnx_engine
from edgecap.runtime.verify import strangers
task = json.loads(sys.argv[1])
if task["sets"][0] == "onnx-int8":
    onnx_engine.OnnxGraph.run = lambda *_: os.kill(os.getpid(), signal.SIGSEGV)
strangers.main(task)
"""


def test_verify_outlives_an_engine(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the set that ended it the death is told, and the others are checked all the same."""
    monkeypatch.setattr(
        "edgecap.runtime.verify.strangers.run_python", lambda flag, module, task, tasks: run_python("-c", KILLER, task)
    )
    found = {check.precision: check for check in verify(foreign, engine="onnx") if check.check == "graphs"}
    assert found["int8"].status == "failed" and found["fp32"].status == "ok"
    assert found["int8"].text.startswith("onnx int8: ended the process that tried them: killed by SIGSEGV")


def test_json_has_no_word_for_infinity(foreign: Path) -> None:
    edit_golden(foreign, lambda d: d["tolerances"].update(fp32=1e308))
    code, out, err = edgecap("verify", foreign, "--json")
    assert (code, out) == (1, []) and "the tolerance of fp32 must be between 0 and 1, not 1e+308" in err[0]
    edit_golden(foreign, lambda d: d["tolerances"].update(fp32=1.0))
    edit_golden(foreign, lambda d: d["graphs"]["onnx-fp32"]["tensors"].update({"state.c": [1.7e308] * 3}))
    code, out, err = edgecap("verify", foreign, "--json")
    assert code == 0 or err
    json.loads(out[0], parse_constant=pytest.fail)


def cases(folder: str) -> list[Path]:
    return sorted((ATTACK / folder).iterdir()) if (ATTACK / folder).is_dir() else []


# What the tensors of these cases, which are older, are called now.
RENAMED = {"features": "memory.features", "keys": "memory.keys", "h0": "state.h", "c0": "state.c", "h": "state.h"}
RENAMED |= {"c": "state.c", "h_next": "next.h", "c_next": "next.c", "alpha": "attention"}


def with_new_names(model: Any) -> None:
    for node in model.graph.node:
        node.input[:] = [RENAMED.get(name, name) for name in node.input]
        node.output[:] = [RENAMED.get(name, name) for name in node.output]
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.name = RENAMED.get(tensor.name, tensor.name)


@pytest.mark.skipif(not ATTACK.is_dir(), reason="the cases of the shared data folder are not here")
def test_bundles_that_harmed_once(tmp_path: Path) -> None:
    for case in cases("bundles"):
        if case.name == "golden_tol":
            continue  # only its golden record is wrong
        files = ("encoder.fp32.onnx", "decoder_step.fp32.onnx")
        encoder, step = (changed((case / name).read_bytes(), with_new_names) for name in files)
        bundle = write_tiny_bundle(tmp_path / case.name, {"fp32": (encoder, step)})
        with pytest.raises(EngineError) as caught, load(bundle) as captioner:
            captioner.caption(encoded("red"))
        assert "\n" not in str(caught.value)
        code, out, err = edgecap("caption", "--bundle", bundle, "-", stdin=encoded("red"))
        assert (code, out, len(err)) == (1, [], 1) and err[0].startswith("edgecap: "), case.name


@pytest.mark.skipif(not ATTACK.is_dir(), reason="the cases of the shared data folder are not here")
def test_graphs_that_harmed_once(tflite_graphs: Graphs, tmp_path: Path) -> None:
    encoder, step = tflite_graphs["fp32"]
    for graph in cases("graphs"):
        content = graph.read_bytes()
        pair = (content, step) if "encoder" in graph.name else (encoder, content)
        bundle = write_tiny_bundle(tmp_path / graph.stem, {}, {"fp32": pair})
        code, out, err = edgecap("caption", "--bundle", bundle, "-", stdin=encoded("red"))
        assert (code, out, len(err)) == (1, [], 1), graph.name
        assert err[0].startswith("edgecap: ") and "Traceback" not in err[0]
