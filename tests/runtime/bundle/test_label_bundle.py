"""A labeller's bundle: what it must hold, what it says of itself, and where that is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import edgecap_here
from edited_bundle import add_file, edit_document, edit_manifest, remove_file
from tiny_labels import LABELS, SPACE, label_table, write_label_bundle

from edgecap.errors import BundleError, TaskError
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.description import describe
from edgecap.runtime.bundle.documents import read_evaluation
from edgecap.runtime.bundle.tasks import least_runtime


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return write_label_bundle(tmp_path / "bundle")


def test_it_opens_as_it_was_written(label_bundle: Path) -> None:
    bundle = Bundle.open(label_bundle)
    assert bundle.labels.names == tuple(LABELS) and bundle.labels.space == SPACE
    assert bundle.confidence is None and bundle.captioning is None
    for words in ("vocabulary", "generation"):
        with pytest.raises(TaskError, match="is a labeller, where a captioner is needed"):
            getattr(bundle, words)
    assert least_runtime("label", "labels") == "0.1.0"


def test_a_captioner_has_no_labels(tiny_bundle: Path) -> None:
    with pytest.raises(TaskError, match="is a captioner, where a labeller is needed"):
        _ = Bundle.open(tiny_bundle).labels


def encoder(document: dict[str, Any]) -> dict[str, Any]:
    graph: dict[str, Any] = next(file["graph"] for file in document["files"] if file["path"] == "encoder.fp32.onnx")
    return graph


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda d: d["dims"].pop("embedding_dim"), "dims lack 'embedding_dim'"),
        (lambda d: d["dims"].update(embedding_dim=4), r"embedding is \('N', 3\), of 4 values by its dims"),
        (lambda d: d["dims"].update(image_size=64), r"image is \('N', 3, 32, 32\), of photos of 64 x 64 pixels by its"),
        (lambda d: encoder(d)["outputs"][0].update(name="pooled"), r"outputs are \['pooled'\], not \['embedding'\]"),
        (lambda d: encoder(d)["inputs"][0].update(name="photo"), r"inputs are \['photo'\], not \['image'\]"),
        (lambda d: encoder(d)["outputs"][0].update(shape=["N", 3, 1]), r"embedding is \('N', 3, 1\), of 3 values"),
        (lambda d: d["graph_sets"][0]["graphs"].clear(), "the graph set onnx-int8 has no encoder"),
        (
            lambda d: d["graph_sets"][0]["graphs"].update(decoder_step="encoder.fp32.onnx"),
            "has a 'decoder_step', which is no graph for the task label",
        ),
        (lambda d: d.update(task="caption"), "one file of the role 'vocab' is needed"),
    ],
)
def test_a_manifest_that_does_not_fit_the_task_is_refused(own: Path, edit: Any, problem: str) -> None:
    edit_manifest(own, edit)
    with pytest.raises(BundleError, match=problem):
        Bundle.open(own)


def test_documents_that_are_missing_or_do_not_fit_are_refused(own: Path) -> None:
    wide = label_table(vectors=label_table().vectors.repeat(2, 1))
    edit_document(own, "labels.json", json.dumps(wide.to_json()).encode())
    with pytest.raises(BundleError, match="has labels of 6 values, its graphs make 3"):
        Bundle.open(own)
    edit_document(own, "labels.json", b'{"space": "colours"}')
    with pytest.raises(BundleError, match=r"labels\.json: is wrong: labels lacks 'names'"):
        Bundle.open(own)
    remove_file(own, "labels.json")
    with pytest.raises(BundleError, match="one file of the role 'labels' is needed"):
        Bundle.open(own)


def test_inspect_tells_of_the_table(own: Path) -> None:
    facts = describe(Bundle.open(own))
    assert facts["labels"] == {"space": SPACE, "labels": 6, "names": 12, "width": 3, "precision": "int8"}
    assert facts["generation"] is None and facts["confidence"] is None and facts["task"] == "label"
    code, out, err = edgecap_here("inspect", own)
    assert (code, err) == (0, []) and not any("generation" in line for line in out)
    assert "  labels        space colours, labels 6, names 12, width 3, precision int8" in out
    assert any("label gate" in line for line in out)


def test_figures_of_a_labeller_need_no_search(own: Path) -> None:
    protocol = {"dataset": "coco", "split": "labels", "photos": 2000, "cpu": "x86-64, AVX2"}
    figures = {"checkpoint_sha256": "0" * 64, "protocol": protocol, "results": {"onnx-int8": {"mean AP": 61.0}}}
    add_file(own, "eval.json", "eval", json.dumps(figures).encode())
    evaluation = read_evaluation(Bundle.open(own))
    assert evaluation is not None and evaluation["protocol"] == protocol
    code, out, _ = edgecap_here("inspect", own)
    assert code == 0 and "evaluation: coco labels, 2,000 photos, on x86-64, AVX2" in out
