"""``edgecap verify``: what it finds of a bundle that is whole, damaged, or does other things here than it did there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from conftest import edgecap
from edited_bundle import add_file, add_set, remove_file
from golden_bundle import PHOTO, edit_golden, graph_checks, write_golden
from patients import ENGINES, without

from edgecap.errors import BundleError, MissingExtraError
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.documents import GOLDEN, SEARCHES
from edgecap.runtime.bundle.files import MANIFEST
from edgecap.runtime.verify.verification import verify


@pytest.fixture
def recorded(own_bundle: Path) -> Path:
    """The tiny bundle with a golden record."""
    write_golden(own_bundle)
    return own_bundle


def test_a_sound_bundle_is_a_line_a_check(recorded: Path) -> None:
    code, out, err = edgecap("verify", recorded, "--engine", "onnx")
    bundle = Bundle.open(recorded)
    count, engine = len(bundle.manifest.files), f"onnxruntime {onnxruntime.__version__}"
    assert (code, err) == (0, [])
    assert out[:2] == [
        f"ok       files: {count} of {count} match manifest.json",
        f"ok       photo: {PHOTO} gives the recorded tensor",
    ]
    for precision, line in zip(bundle.precisions("onnx"), out[2:], strict=True):
        start = f"ok       onnx {precision}, {engine}: captions equal, largest difference 0 ("
        assert line.startswith(start) and line.endswith(" allowed)")


def test_one_precision_is_chosen(recorded: Path) -> None:
    assert list(graph_checks(recorded)) == list(Bundle.open(recorded).precisions("onnx"))
    assert list(graph_checks(recorded, precision="fp32")) == ["fp32"]
    code, out, _ = edgecap("verify", recorded, "--engine", "onnx", "--precision", "fp32")
    assert code == 0 and len(out) == 3 and out[2].startswith("ok       onnx fp32, ")


def test_every_engine_is_held_against_its_own_record(two_runtimes: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(two_runtimes, tmp_path / "bundle"))
    write_golden(bundle)
    code, out, err = edgecap("verify", bundle)
    assert (code, err) == (0, []) and all(line.startswith("ok ") for line in out)
    engines = {line.split()[1]: line.split()[3] for line in out[2:]}
    assert engines == {"onnx": "onnxruntime", "tflite": "ai-edge-litert"}
    assert len(out) == 2 + len(Bundle.open(bundle).manifest.graph_sets)


def test_json_is_one_object(recorded: Path) -> None:
    label = Bundle.open(recorded).manifest.label
    code, out, err = edgecap("verify", recorded, "--engine", "onnx", "--precision", "int8", "--json")
    report = json.loads(out[0])
    assert (code, len(out), err) == (0, 1, [])
    assert set(report) == {"bundle", "checks", "ok"} and report["bundle"] == label and report["ok"] is True
    assert [(check["check"], check["status"]) for check in report["checks"]] == [
        ("files", "ok"),
        ("photo", "ok"),
        ("graphs", "ok"),
    ]
    graphs = report["checks"][2]
    assert graphs["detail"].startswith("captions equal")
    assert (graphs["engine"], graphs["precision"], graphs["library"].split()[0]) == ("onnx", "int8", "onnxruntime")
    assert graphs["tensor"] == "memory.features" and 0 == graphs["difference"] < graphs["allowed"]
    edit_golden(recorded, lambda d: d["graphs"].pop("onnx-int8"))
    code, out, err = edgecap("verify", recorded, "--engine", "onnx", "--precision", "int8", "--json")
    report = json.loads(out[0])
    assert (code, report["ok"], report["checks"][2]["status"]) == (1, False, "failed")
    assert err == [f"edgecap: {report['bundle']}: onnx int8: has no golden record"]


def test_a_changed_byte_of_any_file_is_named(recorded: Path) -> None:
    for entry in Bundle.open(recorded).manifest.files:
        whole = (recorded / entry.path).read_bytes()
        (recorded / entry.path).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(BundleError, match=f"{entry.path}: does not match its sha256"):
            verify(recorded)
        (recorded / entry.path).write_bytes(whole)
    verify(recorded, engine="onnx")
    (recorded / MANIFEST).write_bytes((recorded / MANIFEST).read_bytes().replace(b"tiny-test", b"tiny-tesu"))
    code, out, err = edgecap("verify", recorded)
    assert (code, out, len(err)) == (1, [], 1) and "manifest.json: is wrong: its content does not match" in err[0]


def test_the_first_difference_is_named(recorded: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["graphs"]["onnx-fp32"]["tensors"]["log_probs"][3] -= 1
        document["graphs"]["onnx-fp32"]["tensors"]["log_probs"][5] -= 1
        document["graphs"]["onnx-fp32"]["captions"]["beam"]["caption"] = "A blue photo."

    edit_golden(recorded, edit)
    code, out, err = edgecap("verify", recorded, "--engine", "onnx")
    (failed,) = [line for line in out if not line.startswith("ok ")]
    values = json.loads((recorded / GOLDEN).read_text())["graphs"]["onnx-fp32"]["tensors"]["log_probs"]
    difference = f"log_probs[3] is {values[3] + 1:.5g}, {values[3]:.5g} was recorded ("
    assert failed.startswith("FAILED   onnx fp32, onnxruntime ") and difference in failed
    assert code == 1 and err == [f"edgecap: {Bundle.open(recorded).manifest.label}: {failed[9:]}"]


@pytest.mark.parametrize("search", SEARCHES)
def test_another_caption_fails(recorded: Path, search: str) -> None:
    edit_golden(
        recorded, lambda d: d["graphs"]["onnx-int8"]["captions"][search].update(caption="A \u201cblue\u201d\nphoto.")
    )
    found = graph_checks(recorded)
    assert (found["fp32"].status, found["int8"].status) == ("ok", "failed")
    assert found["int8"].detail == (
        f"the {search} caption is 'A red photo.', 'A \u201cblue\u201d\\nphoto.' was recorded"
    )


def test_another_tensor_of_the_photo_fails(recorded: Path) -> None:
    edit_golden(recorded, lambda d: d.update(input_sha256="0" * 64))
    found = verify(recorded, engine="onnx")
    assert [check.status for check in found[:3]] == ["ok", "failed", "ok"]  # the graphs are checked all the same
    assert found[1].text.startswith(f"photo: {PHOTO} gives another tensor in Pillow ")


def test_a_photo_that_cannot_be_read_fails(recorded: Path) -> None:
    add_file(recorded, PHOTO, "golden", b"no photo")
    assert [check.text for check in verify(recorded)[1:]] == [f"photo: {PHOTO} is not a photo that Pillow can read"]


def test_without_records_there_is_nothing_to_hold_against(recorded: Path) -> None:
    edit_golden(recorded, lambda d: d["graphs"].pop("onnx-int8"))
    found = graph_checks(recorded)
    assert (found["fp32"].status, found["int8"].status) == ("ok", "failed")
    assert found["int8"].text == "onnx int8: has no golden record"
    remove_file(recorded, GOLDEN)
    code, out, err = edgecap("verify", recorded)
    assert (code, out[1:]) == (1, ["FAILED   photo: the bundle carries no golden/golden.json"])
    assert [line.partition(": ")[2].partition(": ")[2] for line in err] == [out[1][9:]]


def add_tflite_graphs(bundle: Path, precision: str = "fp16") -> None:
    add_set(bundle, "tflite", precision, b"no graph", signatures=["encoder"])
    edit_golden(bundle, lambda d: d["graphs"].update({f"tflite-{precision}": d["graphs"]["onnx-fp32"]}))


def test_a_set_without_its_engine_is_skipped(recorded: Path) -> None:
    add_tflite_graphs(recorded)
    code, out, err = without(*ENGINES[1:])("verify", recorded)
    line = "skipped  tflite fp16: LiteRT is not installed: run  pip install 'edgecap[tflite]'"
    assert (code, err) == (0, []) and line in out and sum("ok " in text for text in out) >= 4
    code, out, err = without(*ENGINES[1:])("verify", recorded, "--engine", "tflite")
    assert (code, out) == (1, []) and err == [f"edgecap: {line.partition(': ')[2]}"]


def test_a_set_whose_engine_is_there_is_not(recorded: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    add_tflite_graphs(recorded)
    (check,) = (check for check in verify(recorded, precision="fp16") if check.check == "graphs")
    assert check.status == "failed" and "encoder.fp16.tflite: holds a structure that " in check.detail


def test_without_any_engine_nothing_is_verified(recorded: Path) -> None:
    code, out, err = without(*ENGINES)("verify", recorded)
    assert code == 1 and out[2].startswith("skipped  onnx int8: ") and "pip install 'edgecap[onnx]'" in out[2]
    assert out[-1] == "FAILED   graphs: nothing was verified: no engine is installed that runs them"
    assert len(err) == 1 and err[0].endswith(out[-1][9:])


def test_an_engine_that_does_not_import_is_named(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecap.runtime.engines.libraries.installed", lambda runtime: False)
    with pytest.raises(MissingExtraError, match=r"edgecap\[onnx\]"):
        verify(recorded, engine="onnx")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--engine", "torch"),
        ("--precision", "int4"),
        ("--precision", "auto"),
        ("--threads", "0"),
        ("--precision", "fp16"),  # which this bundle does not have
        ("other", "more"),
    ],
)
def test_wrong_usage_is_exit_2(recorded: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = edgecap("verify", recorded, "--engine", "onnx", *arguments)
    assert (code, out) == (2, []) and err and "Traceback" not in "".join(err)
