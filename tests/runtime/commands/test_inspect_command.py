"""``edgecap inspect``: all that a bundle says of itself, for people and for programs, without any engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, edgecap
from edited_bundle import add_file, add_set, edit_manifest, remove_file
from tiny_bundle import DIMS, GENERATION

from edgecap.cli.inspect import WIDTH, report
from edgecap.cli.tables import table
from edgecap.errors import BundleError
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.description import describe
from edgecap.runtime.wording import human_bytes

ROLES = ("encoder", "decoder_step")
STEP = "decoder_step.fp32.onnx"
FACTS = {STEP: {"ops": {"MatMul": 7, "Add": 6}, "parameters": 6014957, "macs": 4759040}}
PROTOCOL = {
    "dataset": "flickr8k",
    "split": "val",
    "photos": 1000,
    "beam": 5,
    "max_length": 20,
    "length_penalty": 0.7,
    "tokenizer": "Karpathy's tokens",
    "cpu": "x86-64 with AVX-512 VNNI",
}
RESULTS = {
    "torch-fp32": {"BLEU-1": 61.6873, "CIDEr-D": 47.2305},
    "onnx-int8": {
        "BLEU-1": 61.4393,
        "CIDEr-D": 46,
        "CIDEr-D change": -0.8317,
        "identical captions": 0.725,
        "passes": True,
        "lengths": {"mean": 9.5},
    },
}
EVALUATION = {"checkpoint_sha256": "c" * 64, "parity": [], "protocol": PROTOCOL, "results": RESULTS}


def add_json(bundle: Path, role: str, document: object) -> None:
    add_file(bundle, f"{role}.json", role, json.dumps(document).encode())


def lines_of(bundle: Path) -> list[str]:
    return list(report(describe(Bundle.open(bundle))))


def test_the_report_of_a_small_bundle(own_bundle: Path) -> None:
    code, out, err = edgecap("inspect", own_bundle)
    manifest = Bundle.open(own_bundle).manifest
    assert (code, err) == (0, [])
    assert out[:6] == [
        manifest.label,
        "  task          caption",
        "  architecture  lstm, preset test",
        "  created by    tests/tiny_bundle.py",
        "  needs         edgecap 0.1.0 or newer",
        "  dims          image_size 32, locations 4, feature_dim 3, key_dim 3, hidden_dim 3, vocab_size 12",
    ]
    assert "  generation    beam 3, length_penalty 0.0, min_length 1, max_length 6" in out
    for entry in manifest.files:
        row = rf"{re.escape(entry.path)} +{entry.role} +{re.escape(human_bytes(entry.bytes))}  {entry.sha256[:12]}"
        assert sum(re.fullmatch(row, line) is not None for line in out) == 1
    start = out.index(STEP)
    assert out[start + 1 : start + 6] == [
        "  engine        onnx fp32, opset 17, IR version 9",
        "  inputs        token int64 (N, K), state.h float32 (N, K, 3), state.c float32 (N, K, 3),",
        "                memory.features float32 (N, 4, 3), memory.keys float32 (N, 4, 3)",
        "  outputs       log_probs float32 (N, K, 12), next.h float32 (N, K, 3), next.c float32 (N, K, 3),",
        "                attention float32 (N, K, 4)",
    ]
    graphs = "encoder.fp32.onnx + decoder_step.fp32.onnx"
    assert (
        sum(re.fullmatch(rf"onnx-fp32 +{re.escape(graphs)} +not measured +\d\S* kB", line) is not None for line in out)
        == 1
    )
    assert max(map(len, out)) <= WIDTH


def test_json_has_all_of_it(own_bundle: Path) -> None:
    add_json(own_bundle, "graphs", FACTS)
    add_json(own_bundle, "eval", EVALUATION)
    code, out, err = edgecap("inspect", own_bundle, "--json")
    assert (code, len(out), err) == (0, 1, [])
    facts = json.loads(out[0])
    bundle = Bundle.open(own_bundle)
    assert facts == json.loads(json.dumps(describe(bundle)))
    manifest = bundle.manifest
    assert facts["bundle"] == manifest.label and facts["bundle_id"] == manifest.bundle_id
    assert facts["dims"] == DIMS and facts["generation"] == GENERATION.to_json()
    assert [file["sha256"] for file in facts["files"]] == [entry.sha256 for entry in manifest.files]
    assert facts["bytes"] == sum((own_bundle / entry.path).stat().st_size for entry in manifest.files)
    graphs = {graph["path"]: graph for graph in facts["graphs"]}
    assert {name: graphs[STEP][name] for name in ("ops", "parameters", "macs")} == FACTS[STEP]
    assert graphs["encoder.int8.onnx"]["ops"] is None
    assert graphs["encoder.int8.onnx"]["inputs"] == [{"name": "image", "dtype": "float32", "shape": [1, 3, 32, 32]}]
    sets = {graphs["name"]: graphs for graphs in facts["graph_sets"]}
    assert sets["onnx-fp32"] == {
        "name": "onnx-fp32",
        "engine": "onnx",
        "graphs": {role: f"{role}.fp32.onnx" for role in ROLES},
        "passes_gate": None,
        "bytes": sum((own_bundle / f"{role}.fp32.onnx").stat().st_size for role in ROLES),
    }
    assert facts["evaluation"] == {name: EVALUATION[name] for name in ("checkpoint_sha256", "protocol", "results")}


def test_graph_facts_are_told_where_they_are_recorded(own_bundle: Path) -> None:
    graphs = sum(entry.graph is not None for entry in Bundle.open(own_bundle).manifest.files)
    remove_file(own_bundle, "graphs.json")
    lines = lines_of(own_bundle)
    assert lines.count("  operators     not recorded") == graphs
    add_json(own_bundle, "graphs", FACTS)
    lines = lines_of(own_bundle)
    start = lines.index("  operators     7 MatMul, 6 Add")
    assert lines[start + 1] == "  cost          6,014,957 parameters, 4.76 million MACs"
    assert lines.count("  operators     not recorded") == graphs - 1


def test_the_evaluation_is_a_table_of_its_numbers(own_bundle: Path) -> None:
    remove_file(own_bundle, "eval.json")
    assert lines_of(own_bundle)[-1] == "evaluation: not evaluated"
    add_json(own_bundle, "eval", {"checkpoint_sha256": "c" * 64, "parity": []})
    assert lines_of(own_bundle)[-1] == "evaluation: not evaluated"
    add_json(own_bundle, "eval", EVALUATION)
    assert edgecap("inspect", own_bundle)[1][-6:] == [
        "evaluation: flickr8k val, 1,000 photos, beam 5, at most 20 words, length penalty 0.7, Karpathy's",
        "  tokens, on x86-64 with AVX-512 VNNI",
        "                             CIDEr-D  identical",
        "set         BLEU-1  CIDEr-D   change   captions",
        "torch-fp32   61.69    47.23        -          -",
        "onnx-int8    61.44    46.00    -0.83       0.72",
    ]


def test_gates_signatures_and_sizes_are_told(own_bundle: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        for graphs, passes in zip(document["graph_sets"], (True, False), strict=True):
            graphs["passes_gate"] = passes

    edit_manifest(own_bundle, edit)
    add_set(own_bundle, "tflite", "fp16", bytes(750_000), opset=None, ir_version=None, signatures=["step_1", "step_5"])
    lines = lines_of(own_bundle)
    assert lines[lines.index("decoder_step.fp16.tflite") + 1].endswith(" tflite fp16, signatures step_1, step_5")
    gates = (
        ("onnx-int8", "passed", r"\S+ kB"),
        ("onnx-fp32", "missed", r"\S+ kB"),
        ("tflite-fp16", "not measured", r"1\.5 MB"),
    )
    for name, gate, size in gates:
        assert any(re.fullmatch(rf"{name} +encoder\S+ \+ decoder_step\S+ +{gate} +{size}", line) for line in lines)
    assert any(re.fullmatch(r"all files: 1\.5 MB", line) for line in lines)


def test_a_torn_bundle_is_not_described(own_bundle: Path) -> None:
    with (own_bundle / STEP).open("ab") as file:
        file.write(b"\0")
    code, out, err = edgecap("inspect", own_bundle)
    assert (code, out, len(err)) == (1, [], 1) and f"{STEP}: does not match its sha256" in err[0]


@pytest.mark.parametrize(
    ("role", "document", "problem"),
    [
        ("graphs", [], "graphs must be a JSON object, not list"),
        ("graphs", {STEP: 3}, f"{STEP} must be a JSON object, not int"),
        ("graphs", {STEP: {"ops": ["Conv"], "parameters": 1, "macs": 1}}, "ops must be a JSON object"),
        ("graphs", {STEP: {"ops": {"Conv": "x"}, "parameters": 1, "macs": 1}}, "ops.Conv must be a whole number"),
        ("graphs", {STEP: {"ops": {}, "parameters": 1}}, f"{STEP} lacks 'macs'"),
        ("eval", 3, "eval must be a JSON object, not int"),
        ("eval", {**EVALUATION, "results": [1]}, "results must be a JSON object, not list"),
        ("eval", {**EVALUATION, "results": {"onnx-int8": 46.4}}, "results.onnx-int8 must be a JSON object"),
        ("eval", {**EVALUATION, "protocol": None}, "eval.protocol must be a JSON object"),
        ("eval", {**EVALUATION, "protocol": {**PROTOCOL, "beam": "five"}}, "eval.protocol.beam must be a whole"),
    ],
)
def test_a_malformed_document_is_named(own_bundle: Path, role: str, document: object, problem: str) -> None:
    add_json(own_bundle, role, document)
    with pytest.raises(BundleError, match=rf"{role}\.json: is wrong: .*{problem}"):
        describe(Bundle.open(own_bundle))


def test_it_needs_no_engine_and_no_graph_library(own_bundle: Path) -> None:
    absent = ("onnx", "onnxruntime", "ai_edge_litert", "tensorflow", "torch", "flatbuffers", "matplotlib", "tqdm")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); from edgecap.cli import main; main()"
    command = [sys.executable, "-c", code, "inspect", str(own_bundle)]
    run = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert (run.returncode, run.stderr) == (0, "") and run.stdout.splitlines() == lines_of(own_bundle)


@pytest.mark.parametrize("arguments", [("--engine", "onnx"), ("more",)])
def test_wrong_usage_is_exit_2(own_bundle: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = edgecap("inspect", own_bundle, *arguments)
    assert (code, out) == (2, []) and err
    code, out, err = edgecap("inspect", "nothing")
    assert (code, out, len(err)) == (1, [], 1) and "nothing: no such bundle" in err[0]


def test_odd_names_stay_on_one_line(own_bundle: Path) -> None:
    edit_manifest(own_bundle, lambda document: document.update(name="two\nlines", created_by="\u001b[31m", preset=""))
    code, out, _ = edgecap("inspect", own_bundle, PYTHONIOENCODING="latin-1")
    assert code == 0 and out[0].startswith("two\\nlines@") and "  created by    \\x1b[31m" in out


def test_columns_are_aligned() -> None:
    assert list(table([("name", "size"), ("a", "10 B"), ("longer", "1 B")], "<>")) == [
        "name    size",
        "a       10 B",
        "longer   1 B",
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (115471, "115.5 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB")],
)
def test_sizes_are_readable(size: int, text: str) -> None:
    assert human_bytes(size) == text
