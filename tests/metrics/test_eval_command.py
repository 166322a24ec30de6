"""``edgecap eval`` on a tiny dataset whose photos the tiny bundle describes, and what it says of wrong input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import edgecap, encoded
from tiny_bundle import onnx_graphs, write_tiny_bundle

from edgecap.runtime.machine.facts import cpu_kind

COLOURS = ("red", "lime", "blue")
NAMES = {"red": "red", "lime": "green", "blue": "blue"}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three val photos; of the last one the references say something else than the bundle does."""
    (tmp_path / "images").mkdir()
    images = []
    for colour in COLOURS:
        (tmp_path / "images" / f"{colour}.jpg").write_bytes(encoded(colour))
        said = ["a", NAMES[colour], "photo"] if colour != "blue" else ["some", "quite", "other", "sentence"]
        images.append({"filename": f"{colour}.jpg", "split": "val", "sentences": [{"tokens": said}]})
    (tmp_path / "dataset_colours.json").write_text(json.dumps({"dataset": "colours", "images": images}))
    return tmp_path


def test_report_names_protocol_and_figures(tiny_bundle: Path, dataset: Path) -> None:
    code, out, _ = edgecap("eval", "--bundle", tiny_bundle, "--data", dataset, "--beam", 2, "--precision", "fp32")
    assert code == 0
    assert out[0].startswith("tiny-test@") and " fp32, onnxruntime " in out[0]
    assert out[1] == (
        f"colours val, 3 photos, beam 2, at most 6 words, length penalty 0, Karpathy's tokens, on {cpu_kind()}"
    )
    figures = {row.split()[0]: float(row.split()[1]) for row in out[2:8]}
    # 6 of the 9 words are right; the references have 10 words, so the brevity penalty is exp(1 - 10 / 9).
    assert figures["BLEU-1"] == pytest.approx(100 * 6 / 9 * 2.718281828 ** (1 - 10 / 9), abs=0.01)
    assert set(figures) == {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"}
    assert out[8:] == [
        "distinct captions  3 of 3 (100.0%)",
        "distinct words     5",
        "wrong persons      0 of 0 (0.0%)",
        "wrong animals      0 of 0 (0.0%)",
        "wrong colours      0 of 0 (0.0%)",
    ]


def test_quality_is_that_of_the_captions(tiny_bundle: Path, dataset: Path) -> None:
    """With a train split it says what was learnt by heart, though its photos are not there."""
    source = dataset / "dataset_colours.json"
    document = json.loads(source.read_text())
    learnt = [{"tokens": ["a", "red", "photo"]}, {"tokens": ["a", "blue", "photo"]}, {"tokens": ["a", "photo"]}]
    document["images"].append({"filename": "gone.jpg", "split": "train", "sentences": learnt})
    for image in document["images"][:3]:  # what no caption says: there is a dog, and its colour
        image["sentences"] = [{"tokens": ["a", "photo", "of", "a", "red", "dog"]}] * 3
    source.write_text(json.dumps(document))
    code, out, _ = edgecap("eval", "--bundle", tiny_bundle, "--data", dataset, "--json")
    assert code == 0 and json.loads(out[0])["quality"] == {
        "distinct captions": {"count": 3, "of": 3, "share": 1.0},
        "distinct words": 5,
        "seen in training": {"count": 2, "of": 3, "share": 0.6667},
        "wrong persons": {"count": 0, "of": 0, "share": 0.0},
        "wrong animals": {"count": 0, "of": 0, "share": 0.0},
        "wrong colours": {"count": 0, "of": 0, "share": 0.0},
    }


def test_json_report_and_captions_file(tiny_bundle: Path, dataset: Path, tmp_path: Path) -> None:
    file = tmp_path / "captions.json"
    code, out, _ = edgecap("eval", "--bundle", tiny_bundle, "--data", dataset, "--json", "--captions", file)
    assert code == 0
    report = json.loads(out[0])
    assert (report["split"], report["photos"], report["beam"]) == ("val", 3, 3)
    expected = {f"{colour}.jpg": f"A {NAMES[colour]} photo." for colour in COLOURS}
    assert json.loads(file.read_text()) == expected


def test_the_engine_may_be_chosen(two_runtimes: Path, dataset: Path) -> None:
    arguments = ("eval", "--bundle", two_runtimes, "--data", dataset)
    reports = []
    for engine, library in (("onnx", "onnxruntime"), ("tflite", "ai-edge-litert")):
        code, (subject, *report), _ = edgecap(*arguments, "--engine", engine)
        assert code == 0 and f" int8, {library} " in subject
        reports.append(report)
    assert reports[0] == reports[1]


def test_a_precision_that_is_replaced_is_noted_on_stderr(dataset: Path, tmp_path: Path) -> None:
    good = onnx_graphs()["fp32"]
    bundle = write_tiny_bundle(tmp_path / "bundle", {"int8": (good[0], b"an operator of tomorrow"), "fp32": good})
    code, out, err = edgecap("eval", "--bundle", bundle, "--data", dataset)
    assert code == 0 and " fp32, onnxruntime " in out[0]
    assert err[0].startswith("edgecap: int8 graphs do not load in onnxruntime ") and err[0].endswith(": fp32 is used")


def test_wrong_input_is_one_line(tiny_bundle: Path, dataset: Path) -> None:
    arguments = ("eval", "--bundle", tiny_bundle, "--data", dataset)
    source = dataset / "dataset_colours.json"
    code, out, err = edgecap(*arguments, "--split", "test")
    assert (code, out) == (1, [])
    assert err == [f"edgecap: {source}: no photos in split 'test' (splits present: val)"]
    (dataset / "images" / "lime.jpg").write_bytes(b"no photo")
    code, out, err = edgecap(*arguments, "--strict")
    assert (code, out) == (1, [])
    assert err[-1] == (
        f"edgecap: {source}: photo {dataset / 'images' / 'lime.jpg'} is not a photo that Pillow can read"
    )
    code, out, err = edgecap(*arguments, "--checkpoint", "x.safetensors")
    assert (code, out) == (2, []) and "not both" in err[-1]


def test_data_may_come_from_the_environment(tiny_bundle: Path, dataset: Path) -> None:
    code, out, _ = edgecap("eval", "--bundle", tiny_bundle, EDGECAP_DATA=str(dataset))
    assert code == 0 and out[1].startswith("colours val")


def test_what_cannot_be_used_is_left_out_or_refused(tiny_bundle: Path, dataset: Path) -> None:
    source = dataset / "dataset_colours.json"
    document = json.loads(source.read_text())
    document["images"][0]["sentences"].append({"raw": ""})
    document["images"].append({**document["images"][1], "split": "train"})
    source.write_text(json.dumps(document))
    (dataset / "images" / "blue.jpg").write_bytes(b"")
    arguments = ("eval", "--bundle", tiny_bundle, "--data", dataset)
    code, out, err = edgecap(*arguments)
    assert code == 0 and ", 2 photos, " in out[1]
    for text in (
        "caption 1 of photo red.jpg has no words: left out",
        "1 caption is left out (--strict refuses them)",
        "photo lime.jpg is in train and in val: where a captioner was trained on these, its figures are too good",
        "blue.jpg is empty: left out",
        "1 photo is left out (--strict refuses them)",
    ):
        assert any(line.startswith(f"edgecap: {source}: ") and line.endswith(text) for line in err), (text, err)
    code, out, err = edgecap(*arguments, "--strict")
    assert (code, out) == (1, []) and err == [f"edgecap: {source}: caption 1 of photo red.jpg has no words"]


def test_several_datasets_have_their_own_figures_and_a_mean(tiny_bundle: Path, dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(dataset / "images", other / "images")
    document = json.loads((dataset / "dataset_colours.json").read_text())
    document["images"] = document["images"][:2]
    (other / "dataset_colours.json").write_text(json.dumps(document))
    arguments = ("eval", "--bundle", tiny_bundle, "--data", dataset, "--data", f"{other},weight=2")
    captions = tmp_path / "captions.json"
    code, out, _ = edgecap(*arguments, "--captions", captions)
    assert code == 0 and [line.partition(",")[0] for line in out if " val, " in line] == [
        "colours val",
        "colours-2 val",
    ]
    cider = [float(line.split()[1]) for line in out if line.startswith("CIDEr-D")]
    assert "mean of 2 datasets" in out and cider[2] == pytest.approx((cider[0] + cider[1]) / 2, abs=0.01)
    assert set(json.loads(captions.read_text())) == {
        *(f"colours/{colour}.jpg" for colour in COLOURS),
        *(f"colours-2/{colour}.jpg" for colour in COLOURS[:2]),
    }
    code, out, _ = edgecap(*arguments, "--json")
    assert code == 0 and [json.loads(line)["photos"] for line in out] == [3, 2]
    code, out, err = edgecap(*arguments, "--photos", dataset / "images")
    assert (code, out) == (2, []) and "--photos is for a single --data" in err[-1]
    code, out, err = edgecap("eval", "--bundle", tiny_bundle, "--data", f"{dataset},weight=0")
    assert (code, out) == (2, []) and "weight must be above 0" in err[-1]
    code, out, err = edgecap("eval", "--bundle", tiny_bundle, "--data", dataset, "--data", tmp_path / "none")
    assert (code, out) == (1, []) and "no such captions file or dataset folder" in err[-1]
