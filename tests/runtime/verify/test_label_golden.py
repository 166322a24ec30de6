"""The golden photo of a labeller: what is recorded, and which differences count."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import edgecap_here, encoded
from golden_bundle import edit_golden, graph_checks
from tiny_labels import write_label_bundle, write_label_golden

from edgecap.errors import BundleError
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.documents import GOLDEN, Record, read_golden
from edgecap.runtime.verify.golden_check import Check, compare

FAILING = Check("graphs", "failed", "", "onnx", "fp32", "library 1.0")
RECORDED = {"dog": 0.3, "puppy": 0.295, "fox": 0.25, "cat": 0.2, "car": 0.1, "bus": 0.095, "sea": 0.01}


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    bundle = write_label_bundle(tmp_path / "bundle")
    write_label_golden(bundle, encoded("red", file_format="PNG"))
    return bundle


def test_a_sound_labeller_is_a_line_a_check(recorded: Path) -> None:
    code, out, err = edgecap_here("verify", recorded, "--engine", "onnx")
    assert (code, err) == (0, []) and len(out) == 4
    assert all(": labels equal, largest difference 0 (embedding; " in line for line in out[2:])
    record = json.loads((recorded / GOLDEN).read_text())["graphs"]["onnx-fp32"]
    assert next(iter(record["labels"])) == "red" and record["labels"]["red"] == pytest.approx(1, abs=0.01)
    assert np.linalg.norm(record["tensors"]["embedding"]) == pytest.approx(1, abs=1e-4)


def test_every_engine_is_held_against_its_own_record(two_label_engines: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(two_label_engines, tmp_path / "bundle"))
    write_label_golden(bundle, encoded("red", file_format="PNG"))
    code, out, err = edgecap_here("verify", bundle)
    assert (code, err) == (0, []) and len(out) == 2 + 4 and all(line.startswith("ok ") for line in out)


@pytest.mark.parametrize(
    ("edit", "detail"),
    [
        (
            lambda record: record["tensors"]["embedding"].__setitem__(1, 0.5),
            r"embedding\[1\] is -0\.\d+, 0.5 was recorded",
        ),
        (lambda record: record["tensors"]["embedding"].pop(), "embedding has 3 values, 2 were recorded"),
        (lambda record: record.update(labels={"blue": 1.0, "red": 0.9}), "label 1 is 'red', 'blue' was recorded"),
        (lambda record: record["tensors"].update(other=[1.0]), "gives embedding, embedding, other were recorded"),
    ],
)
def test_a_difference_is_named(recorded: Path, edit: Callable[[dict[str, Any]], object], detail: str) -> None:
    edit_golden(recorded, lambda document: edit(document["graphs"]["onnx-fp32"]))
    found = graph_checks(recorded)
    assert (found["int8"].status, found["fp32"].status) == ("ok", "failed")
    assert re.match(detail, found["fp32"].detail)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda record: record.pop("labels"), "lacks 'labels'"),
        (lambda record: record.update(labels={}), "a record has no labels"),
        (lambda record: record.update(labels=["red"]), "labels must be a JSON object, not list"),
        (lambda record: record["labels"].update(red="1"), "labels.red must be a number"),
    ],
)
def test_a_record_that_is_none_is_one_line(
    recorded: Path, edit: Callable[[dict[str, Any]], object], problem: str
) -> None:
    edit_golden(recorded, lambda document: edit(document["graphs"]["onnx-fp32"]))
    with pytest.raises(BundleError, match=problem):
        read_golden(Bundle.open(recorded))
    code, out, err = edgecap_here("verify", recorded)
    assert (code, out, len(err)) == (1, [], 1)


def made(*names: str) -> Record:
    return Record({"embedding": np.array([0.6, 0.8])}, {}, dict.fromkeys(names, 0.0))


@pytest.mark.parametrize(
    ("names", "detail"),
    [
        (("dog", "puppy", "fox", "cat", "car"), None),
        (("puppy", "dog", "fox", "cat", "bus"), None),  # as similar, to a hundredth
        (("fox", "dog", "puppy", "cat", "car"), "label 1 is 'fox', 'dog' was recorded"),
        (("dog", "puppy", "fox", "cat", "sea"), "label 5 is 'sea', 'car' was recorded"),
        (("dog", "puppy", "fox", "wolf", "car"), "label 4 is 'wolf', 'cat' was recorded"),
        (("dog", "puppy", "fox", "cat", "car", "sky"), None),  # five are compared
    ],
)
def test_labels_may_change_places_where_they_are_as_similar(names: tuple[str, ...], detail: str | None) -> None:
    check = compare(made(*names), Record({"embedding": np.array([0.6, 0.8])}, {}, RECORDED), 0.01, FAILING)
    if detail is None:
        assert check.status == "ok" and check.detail.startswith("labels equal, largest difference 0 (embedding; ")
    else:
        assert (check.status, check.detail) == ("failed", detail)


def test_doctor_examines_a_labeller(recorded: Path) -> None:
    _, out, _ = edgecap_here("doctor", "--bundle", recorded)
    assert any(
        line.startswith("ok       golden photo: onnx int8, onnxruntime") and "labels equal" in line for line in out
    )
