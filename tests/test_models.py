"""The committed model: its files belong together, it describes photos, and what is written of it was measured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from conftest import ROOT, edgecap

from edgecap.runtime.bundle import Bundle, find_bundle

MODEL = ROOT / "models" / "plus"
BUNDLE = MODEL / "bundle"
CHECKPOINT = MODEL / "checkpoint.safetensors"


def test_sizes_are_within_their_limits() -> None:
    assert sum(path.stat().st_size for path in BUNDLE.rglob("*") if path.is_file()) <= 12_000_000
    assert CHECKPOINT.stat().st_size <= 24_000_000


def test_it_is_the_default_and_the_golden_photo_gives_the_golden_caption() -> None:
    assert find_bundle().resolve() == BUNDLE
    golden = json.loads((BUNDLE / "golden" / "golden.json").read_text())
    expected = golden["graphs"]["onnx-int8"]
    assert edgecap("caption", BUNDLE / golden["photo"]) == (0, [expected["captions"]["beam"]["caption"]], [])


def test_real_photos_get_sentences_of_their_own(real_photos: list[Path]) -> None:
    code, out, err = edgecap("caption", *real_photos)
    assert (code, err) == (0, []) and len(out) == len(real_photos) == 40
    sentences = [line.partition(": ")[2] for line in out]
    assert all(len(sentence.split()) >= 3 and sentence.endswith(".") for sentence in sentences)
    assert len(set(sentences)) >= 36


def test_checkpoint_recipe_and_bundle_belong_together() -> None:
    pytest.importorskip("torch", reason="reading the checkpoint needs the extra train")
    from edgecap.model.checkpoint import load_checkpoint
    from edgecap.training.config import TrainConfig, load_config

    evaluation = json.loads((BUNDLE / "eval.json").read_text())
    assert hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest() == evaluation["checkpoint_sha256"]
    checkpoint = load_checkpoint(CHECKPOINT, preset="plus")
    assert TrainConfig.from_json(checkpoint.config) == load_config(MODEL / "train.toml", {})
    assert Bundle.open(BUNDLE).vocabulary == checkpoint.vocabulary


def test_readme_and_card_give_the_measured_figures() -> None:
    evaluation = json.loads((BUNDLE / "eval.json").read_text())
    results, sizes = evaluation["results"], evaluation["bytes"]
    int8 = results["onnx-int8"]
    assert int8["CIDEr-D"] >= 42 and int8["BLEU-4"] >= 18.5
    assert int8["passes gate"] and int8["CIDEr-D change"] >= -1 and int8["identical captions"] >= 0.7
    golden = json.loads((BUNDLE / "golden" / "golden.json").read_text())
    readme, card = (path.read_text(encoding="utf-8") for path in (ROOT / "README.md", BUNDLE / "MODEL_CARD.md"))
    names = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D")
    assert set(results) == {"torch-fp32", "onnx-fp32", "onnx-int8"}
    for graphs, scores in results.items():
        size = f"{sizes[graphs] / 1e6:.1f}" if graphs in sizes else ""
        row = f"| {graphs} | {size} | " + " | ".join(f"{scores[name]:.2f}" for name in names) + " |"
        assert row in readme and row in card
    same = f"{int8['identical captions']:.1%} | {int8['identical greedy captions']:.1%}"
    assert f"| onnx-int8 | onnx-fp32 | {int8['CIDEr-D change']:+.2f} | {same} |" in readme
    assert f"| {golden['graphs']['onnx-int8']['captions']['beam']['caption']} |" in readme


def test_the_default_bundle_verifies_here() -> None:
    code, out, err = edgecap("verify")
    assert (code, err) == (0, []) and [line.split()[0] for line in out] == ["ok"] * 3
