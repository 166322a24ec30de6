"""Confidence of a caption: from the document in the bundle to ``--min-confidence``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import edgecap
from edited_bundle import edit_document, edit_manifest
from tiny_bundle import CONFIDENCE, write_tiny_bundle

from edgecap.errors import BundleError
from edgecap.runtime import load
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.confidence import SIGNAL, Calibration, Confidence

Photo = Callable[..., Path]
Edit = Callable[[dict[str, Any]], object]
FP32 = ("--precision", "fp32")


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with a calibration of its fp32 graphs. Not to be written to."""
    return write_tiny_bundle(tmp_path_factory.mktemp("calibrated") / "bundle", confidence=CONFIDENCE)


@pytest.fixture
def photos(photo: Photo) -> tuple[Path, Path]:
    """One that the bundle is sure of, and one that it is not."""
    return photo("red.png", "red"), photo("white.png", "white")


def test_the_document_is_what_was_written(calibrated: Path) -> None:
    assert Bundle.open(calibrated).confidence == CONFIDENCE
    assert Confidence.from_json(json.loads(json.dumps(CONFIDENCE.to_json()))) == CONFIDENCE


def test_a_bundle_without_one_opens(tiny_bundle: Path, photos: tuple[Path, Path]) -> None:
    assert Bundle.open(tiny_bundle).confidence is None
    with load(tiny_bundle, threads=1) as captioner:
        assert captioner.calibration is None and captioner.caption(photos[0]).confidence is None


def test_probability_is_the_logistic_of_the_signal() -> None:
    calibration = Calibration(slope=2.0, intercept=1.0)
    assert calibration.probability(-1.5) == pytest.approx(1 / (1 + math.exp(2.0)))
    assert calibration.probability(-0.5) == 0.5
    assert (calibration.probability(-1e9), calibration.probability(1e9)) == (0, 1)  # nothing overflows


def test_confidence_is_that_of_the_mean_log_probability(calibrated: Path, photos: tuple[Path, Path]) -> None:
    with load(calibrated, precision="fp32", threads=1) as captioner:
        for path in photos:
            caption = captioner.caption(path)
            logit = 20 * caption.log_prob / (len(caption.tokens) + 1) + 6  # the end is a token too
            assert caption.confidence == pytest.approx(1 / (1 + math.exp(-logit)))
        cut = captioner.caption(photos[0], max_length=2)
        assert cut.truncated and cut.confidence == pytest.approx(1 / (1 + math.exp(-20 * cut.log_prob / 2 - 6)))
    with load(calibrated, precision="int8", threads=1) as captioner:  # of which the document says nothing
        assert captioner.calibration is None and captioner.caption(photos[0]).confidence is None


def test_captions_below_the_limit_are_not_sure(calibrated: Path, photos: tuple[Path, Path]) -> None:
    sure, unsure = photos
    arguments = ("caption", sure, unsure, "--bundle", calibrated, *FP32)
    assert edgecap(*arguments, "--min-confidence", 0.5) == (0, [f"{sure}: A red photo.", f"{unsure}: not sure"], [])
    assert edgecap(*arguments, "--min-confidence", 0.1)[1] == [f"{sure}: A red photo.", f"{unsure}: A light photo."]
    assert edgecap(*arguments, "--min-confidence", 1)[1] == [f"{sure}: not sure", f"{unsure}: not sure"]
    assert edgecap(*arguments)[1][1] == f"{unsure}: A light photo."
    assert edgecap("caption", unsure, "--bundle", calibrated, *FP32, "--min-confidence", 0.5) == (0, ["not sure"], [])


def test_json_keeps_the_caption_and_says_whether_it_is_sure(
    calibrated: Path, tiny_bundle: Path, photos: tuple[Path, Path]
) -> None:
    arguments = ("caption", *photos, "--json", *FP32, "--bundle")
    code, out, err = edgecap(*arguments, calibrated, "--min-confidence", 0.5)
    records = [json.loads(line) for line in out]
    assert (code, err) == (0, []) and [record["caption"] for record in records] == ["A red photo.", "A light photo."]
    assert [record["sure"] for record in records] == [True, False]
    assert records[0]["confidence"] > 0.8 and records[1]["confidence"] < 0.5
    # A limit that a confidence just reaches is reached
    code, out, _ = edgecap(*arguments, calibrated, "--min-confidence", repr(records[1]["confidence"]))
    assert code == 0 and json.loads(out[1])["sure"] is True
    without = [json.loads(line) for line in edgecap(*arguments, calibrated)[1]]
    assert [record["confidence"] for record in without] == [record["confidence"] for record in records]
    assert all("sure" not in record for record in without)
    assert [json.loads(line)["confidence"] for line in edgecap(*arguments, tiny_bundle)[1]] == [None, None]


def test_a_limit_without_a_calibration_is_wrong_usage(
    calibrated: Path, tiny_bundle: Path, photos: tuple[Path, Path]
) -> None:
    without = "it was exported without --data, whose val photos it takes: export it again with them"
    others = "of its graphs these have one: onnx-fp32 (--engine, --precision)"
    for bundle, precision, why in ((tiny_bundle, "fp32", without), (calibrated, "int8", others)):
        arguments = ("caption", *photos, "--bundle", bundle, "--precision", precision)
        code, out, (line,) = edgecap(*arguments, "--min-confidence", 0.5)
        assert (code, out) == (2, [])
        assert line.startswith("edgecap: min_confidence: tiny-test@")
        assert line.endswith(f" has no calibration for onnx-{precision}: {why}")


def test_too_few_photos_to_calibrate_on_are_the_reason(own_bundle: Path, photos: tuple[Path, Path]) -> None:
    protocol = {
        "dataset": "d",
        "split": "val",
        "tokenizer": "t",
        "cpu": "c",
        "beam": 3,
        "max_length": 6,
        "length_penalty": 0,
    }
    evaluation = {"checkpoint_sha256": "0", "results": {"onnx-fp32": {}}}
    for count, number in ((1, "1 val photo"), (99, "99 val photos")):
        content = json.dumps({**evaluation, "protocol": {**protocol, "photos": count}}).encode()
        (own_bundle / "eval.json").write_bytes(content)
        facts = {"path": "eval.json", "role": "eval", "sha256": sha256(content).hexdigest(), "bytes": len(content)}

        def add(document: dict[str, Any], facts: dict[str, Any] = facts) -> None:
            others = [entry for entry in document["files"] if entry["role"] != "eval"]
            note = next(entry for entry in others if entry["role"] == "golden")
            document["files"] = [*others, {**note, **facts}]

        edit_manifest(own_bundle, add)
        code, out, (line,) = edgecap("caption", photos[0], "--bundle", own_bundle, "--min-confidence", 0.5)
        assert (code, out) == (2, []), line
        assert line.endswith(f": it was exported with {number}, too few to calibrate on: export it again with more")


@pytest.mark.parametrize("limit", ["1.01", "-0.1", "nan", "inf", "half"])
def test_a_limit_that_is_no_probability_is_wrong_usage(calibrated: Path, photos: tuple[Path, Path], limit: str) -> None:
    arguments = ("caption", photos[0], "--bundle", calibrated, *FP32, "--min-confidence", limit)
    code, out, err = edgecap(*arguments)
    assert (code, out) == (2, []) and re.search("min.confidence", err[-1]) and "Traceback" not in "".join(err)


def without(name: str) -> Edit:
    return lambda document: document.pop(name)


def of_fp32(**changes: object) -> Edit:
    return lambda document: document["sets"]["onnx-fp32"].update(changes)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (of_fp32(slope="steep"), r"onnx-fp32\.slope must be a number, not 'steep'"),
        (of_fp32(slope=None), r"onnx-fp32\.slope must be a number, not None"),
        (of_fp32(auc="good"), r"onnx-fp32\.auc must be a number, not 'good'"),
        (lambda document: document["sets"]["onnx-fp32"].pop("intercept"), r"sets\.onnx-fp32 lacks 'intercept'"),
        (lambda document: document["sets"].update({"onnx-int8": 0.5}), r"sets\.onnx-int8 must be a JSON object"),
        (lambda document: document.update(sets=[]), r"confidence\.sets must be a JSON object, not list"),
        (without("sets"), "confidence lacks 'sets'"),
        (without("right"), "confidence lacks 'right'"),
        (without("protocol"), "confidence lacks 'protocol'"),
        (without("signal"), "confidence lacks 'signal'"),
        (lambda document: document.update(signal="entropy"), f"confidence.signal must be '{SIGNAL}', not 'entropy'"),
        (lambda document: document["protocol"].update(photos=0), "confidence.protocol.photos must be positive"),
        (lambda document: document["protocol"].pop("dataset"), r"confidence\.protocol lacks 'dataset'"),
    ],
)
def test_a_wrong_document_is_named(tmp_path: Path, edit: Edit, problem: str) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", confidence=CONFIDENCE)
    document = CONFIDENCE.to_json()
    edit(document)
    edit_document(bundle, "confidence.json", json.dumps(document).encode())
    with pytest.raises(BundleError, match=rf"confidence\.json: is wrong: .*{problem}"):
        Bundle.open(bundle)


def test_a_document_that_is_no_object_is_named(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", confidence=CONFIDENCE)
    for content, problem in ((b"[]", "is wrong: confidence must be a JSON object, not list"), (b"{", "is not JSON")):
        edit_document(bundle, "confidence.json", content)
        with pytest.raises(BundleError, match=rf"confidence\.json: {problem}"):
            Bundle.open(bundle)


def test_a_torn_document_is_named_on_the_command_line(tmp_path: Path, photos: tuple[Path, Path]) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", confidence=CONFIDENCE)
    content = (bundle / "confidence.json").read_bytes()
    (bundle / "confidence.json").write_bytes(content.replace(b"20.0", b"30.0"))
    code, out, (line,) = edgecap("caption", photos[0], "--bundle", bundle)
    assert (code, out) == (1, []) and "confidence.json: does not match its sha256" in line


def test_two_documents_are_refused(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", confidence=CONFIDENCE)
    (bundle / "second.json").write_bytes((bundle / "confidence.json").read_bytes())

    def repeat(manifest: dict[str, Any]) -> None:
        (entry,) = (file for file in manifest["files"] if file["role"] == "confidence")
        manifest["files"].append({**entry, "path": "second.json"})

    edit_manifest(bundle, repeat)
    with pytest.raises(BundleError, match="at most one file of the role 'confidence' is allowed"):
        Bundle.open(bundle)


def test_inspect_tells_of_it(calibrated: Path, tiny_bundle: Path) -> None:
    line = "confidence: calibrated on colours val, 100 photos, of onnx-fp32 (AUC 0.75)"
    assert edgecap("inspect", calibrated)[1][-1] == line
    assert json.loads(edgecap("inspect", calibrated, "--json")[1][0])["confidence"] == CONFIDENCE.to_json()
    assert not any("confidence" in text for text in edgecap("inspect", tiny_bundle)[1])


def test_an_area_is_optional(tmp_path: Path) -> None:
    silent = replace(CONFIDENCE, sets={"onnx-fp32": Calibration(1.0, 0.0)})
    assert Bundle.open(write_tiny_bundle(tmp_path / "bundle", confidence=silent)).confidence == silent
