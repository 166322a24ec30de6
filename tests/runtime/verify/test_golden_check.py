"""What graphs make of the golden photo against what was recorded, and which records are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import edgecap
from edited_bundle import add_file
from golden_bundle import edit_golden, graph_checks, write_golden
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgecap.errors import BundleError, OptionError
from edgecap.runtime.bundle.documents import GOLDEN, SEARCHES, Record
from edgecap.runtime.verify.golden_check import Check, compare
from edgecap.runtime.verify.verification import verify

TENSORS = ("memory.features", "memory.keys", "state.h", "state.c", "attention", "log_probs")
FAILING = Check("graphs", "failed", "", "onnx", "fp32", "library 1.0")


@pytest.fixture
def recorded(own_bundle: Path) -> Path:
    """The tiny bundle with a golden record."""
    write_golden(own_bundle)
    return own_bundle


def make_record(seed: int) -> Record:
    random = np.random.default_rng(seed)
    tensors = {name: random.normal(size=n + 3).round(5) for n, name in enumerate(TENSORS)}
    return Record(tensors, dict.fromkeys(SEARCHES, "A dog."))


@given(st.sampled_from(TENSORS), st.integers(0, 2), st.floats(0, 2), st.floats(0, 1), st.integers(0, 9))
def test_the_tolerance_is_a_share_of_the_largest_recorded_value(
    name: str, index: int, share: float, tolerance: float, seed: int
) -> None:
    recorded, found = make_record(seed), make_record(seed)
    largest = np.abs(recorded.tensors[name]).max()
    found.tensors[name][index] += share * largest
    check = compare(found, recorded, tolerance, FAILING)
    if share <= tolerance:
        assert check.status == "ok" and check.detail.startswith("captions equal, largest difference ")
    elif (share - tolerance) * largest > 2e-5:  # else within what rounding of the records makes
        assert check.status == "failed" and check.detail.startswith(f"{name}[{index}] is ")
        assert check.tensor == name and math.isclose(check.difference or 0, share * largest, rel_tol=1e-6)
    assert (check.engine, check.precision, check.library) == ("onnx", "fp32", "library 1.0")


@given(st.sampled_from(TENSORS), st.integers(0, 2), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_what_is_not_finite_fails_whatever_the_tolerance(name: str, index: int, value: float) -> None:
    found = make_record(0)
    found.tensors[name][index] = value
    check = compare(found, make_record(0), 1e6, FAILING)
    assert (check.status, check.tensor, check.difference) == ("failed", name, None)
    assert check.detail.startswith(f"{name}[{index}] is {value:.5g}, ")


def test_a_tensor_of_another_size_fails() -> None:
    recorded = make_record(0)
    recorded.tensors["memory.keys"] = recorded.tensors["memory.keys"][:2]  # type: ignore[index]
    check = compare(make_record(0), recorded, 1.0, FAILING)
    assert (check.status, check.detail) == ("failed", "memory.keys has 4 values, 2 were recorded")


def edit_graph(bundle: Path, name: str, edit: Callable[[onnx.GraphProto], object]) -> None:
    model = onnx.load_model(bundle / name)
    edit(model.graph)
    add_file(bundle, name, "graph", model.SerializeToString())


def test_a_graph_that_makes_nan_fails(recorded: Path) -> None:
    """No caption of the tiny graphs depends on state.c."""

    def edit(graph: onnx.GraphProto) -> None:
        graph.node[-1].CopyFrom(helper.make_node("Acos", ["state.h"], ["state.c"]))

    edit_graph(recorded, "encoder.fp32.onnx", edit)
    check = graph_checks(recorded)["fp32"]
    assert (check.status, check.tensor) == ("failed", "state.c") and "] is nan, " in check.detail
    _, out, _ = edgecap("verify", recorded, "--precision", "fp32", "--engine", "onnx", "--json")
    assert "NaN" not in out[0] and json.loads(out[0])["checks"][2]["difference"] is None


def test_a_graph_that_leaves_no_caption_fails(recorded: Path) -> None:
    def edit(graph: onnx.GraphProto) -> None:
        (words,) = (tensor for tensor in graph.initializer if tensor.name == "words_of_colour")
        words.CopyFrom(numpy_helper.from_array(np.full((3, words.dims[1]), np.nan, np.float32), words.name))

    edit_graph(recorded, "decoder_step.fp32.onnx", edit)
    check = graph_checks(recorded)["fp32"]
    assert check.status == "failed" and check.library and "NaN" in check.detail


def test_graphs_of_other_sizes_fail(recorded: Path) -> None:
    """A step that knows a word more than the bundle, and likes it best."""

    def edit(graph: onnx.GraphProto) -> None:
        for table in graph.initializer:
            rows, likes = (1, 99) if table.name == "follows" else (0, 0)
            values = np.pad(numpy_helper.to_array(table), [(0, rows), (0, 1)], constant_values=likes)
            table.CopyFrom(numpy_helper.from_array(values, table.name))
        graph.output[0].type.tensor_type.shape.dim[2].dim_value += 1

    edit_graph(recorded, "decoder_step.fp32.onnx", edit)
    check = graph_checks(recorded)["fp32"]
    assert (check.status, check.detail) == (
        "failed",
        "tiny-test: decoder_step has log_probs as float32 (N, K, 13), its manifest lists float32 (N, K, 12)",
    )


def test_a_graph_that_does_not_load_fails_with_the_reason(recorded: Path) -> None:
    add_file(recorded, "encoder.int8.onnx", "graph", b"no graph")
    found = graph_checks(recorded)
    assert (found["fp32"].status, found["int8"].status, found["int8"].library) == ("ok", "failed", None)
    assert "encoder: does not load in onnxruntime " in found["int8"].detail


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda d: d.pop("photo"), "golden lacks 'photo'"),
        (lambda d: d.update(photo="golden/other.png"), "the photo 'golden/other.png' is no file of the bundle"),
        (lambda d: d.update(photo="../red.png"), "is no file of the bundle"),
        (lambda d: d.update(input_sha256=7), "golden.input_sha256 must be a string, not 7"),
        (lambda d: d.pop("tolerances"), "golden lacks 'tolerances'"),
        (lambda d: d["tolerances"].pop("int8"), "golden.tolerances lacks 'int8'"),
        (lambda d: d["tolerances"].update(int8=-0.1), "tolerance of int8 must be between 0 and 1, not -0.1"),
        (lambda d: d["tolerances"].update(fp32=1e308), r"tolerance of fp32 must be between 0 and 1, not 1e\+308"),
        (lambda d: d.update(graphs=[]), "golden.graphs must be a JSON object, not list"),
        (lambda d: d["graphs"].update({"onnx-int8": 1}), "golden.graphs.onnx-int8 must be a JSON object"),
        (lambda d: d["graphs"]["onnx-fp32"].pop("tensors"), "golden.graphs.onnx-fp32 lacks 'tensors'"),
        (
            lambda d: d["graphs"]["onnx-fp32"]["tensors"]["state.h"].__setitem__(1, "x"),
            r"state\.h\[1\] must be a number",
        ),
        (lambda d: d["graphs"]["onnx-fp32"]["captions"].pop("greedy"), "captions lacks 'greedy'"),
        (lambda d: d["graphs"]["onnx-fp32"]["captions"]["beam"].update(caption=None), "caption must be a string"),
    ],
)
def test_a_malformed_record_is_named(recorded: Path, edit: Callable[[dict[str, Any]], object], problem: str) -> None:
    edit_golden(recorded, edit)
    with pytest.raises(BundleError, match=rf"golden/golden\.json: is wrong: .*{problem}"):
        verify(recorded)


def test_a_record_of_other_tensors_fails(recorded: Path) -> None:
    edit_golden(recorded, lambda d: d["graphs"]["onnx-fp32"]["tensors"].pop("state.c"))
    found = graph_checks(recorded)
    assert (found["int8"].status, found["fp32"].status) == ("ok", "failed")
    assert found["fp32"].detail.startswith("gives memory.features, memory.keys, state.h, state.c, ")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_record_that_is_not_json_is_one_line(recorded: Path, content: bytes) -> None:
    add_file(recorded, GOLDEN, "golden", content)
    code, out, err = edgecap("verify", recorded)
    assert (code, out, len(err)) == (1, [], 1) and f"{GOLDEN}: is not JSON" in err[0]


def test_wrong_choices_are_option_errors(recorded: Path) -> None:
    choices: list[tuple[dict[str, Any], str]] = [
        ({"engine": "torch"}, "engine must be onnx or tflite, not 'torch'"),
        ({"precision": "int4"}, "has no int4 graphs; it has: onnx int8, onnx fp32"),
        ({"threads": 0}, "threads must be between 1 and"),
        ({"engine": "onnx", "precision": "fp16"}, "has no onnx fp16 graphs; it has: onnx "),
    ]
    for choice, problem in choices:
        with pytest.raises(OptionError, match=problem):
            verify(recorded, **choice)


def test_a_check_says_what_it_is_of() -> None:
    assert replace(FAILING, detail="is lost").text == "onnx fp32, library 1.0: is lost"
    assert Check("files", "ok", "are there").text == "files: are there"
