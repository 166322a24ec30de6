"""The committed models: their files belong together, they describe photos, and what is written of them was measured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, edgecap

from edgecap.runtime.bundle.bundle import DEFAULT_BUNDLE, Bundle, find_bundle

README = (ROOT / "README.md").read_text(encoding="utf-8")
FIGURES = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
MODELS = {bundle.parent.name: bundle.parent for bundle in sorted((ROOT / "models").glob("*/bundle"))}
NAMES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D")

every_model = pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))


def evaluation(model: Path) -> dict[str, Any]:
    return dict(json.loads((model / "bundle" / "eval.json").read_text()))


def of_flickr8k(model: Path) -> dict[str, Any]:
    """The figures on the split that all models are measured on."""
    int8: dict[str, Any] = evaluation(model)["results"]["onnx-int8"]
    return int8.get("datasets", {}).get("flickr8k", int8)


def golden(model: Path) -> dict[str, Any]:
    return dict(json.loads((model / "bundle" / "golden" / "golden.json").read_text()))


def checkpoint_of(model: Path) -> Path:
    path = model / "checkpoint.safetensors"
    if not path.is_file() and not (ROOT / ".git").exists():
        pytest.skip("an sdist carries no checkpoints")
    return path


@every_model
def test_sizes_are_within_their_limits(model: Path) -> None:
    assert sum(path.stat().st_size for path in (model / "bundle").rglob("*") if path.is_file()) <= 13_000_000
    assert checkpoint_of(model).stat().st_size <= 25_000_000  # that of plus, with the words of both sets


def test_the_default_is_the_one_with_the_best_cider_d() -> None:
    scores = {name: of_flickr8k(model)["CIDEr-D"] for name, model in MODELS.items()}
    assert max(scores, key=scores.__getitem__) == DEFAULT_BUNDLE
    default, model = Bundle.open(find_bundle()), Bundle.open(MODELS[DEFAULT_BUNDLE] / "bundle")
    assert default.manifest.bundle_id == model.manifest.bundle_id


@every_model
def test_the_golden_photo_gives_the_golden_caption(model: Path) -> None:
    expected = golden(model)["graphs"]["onnx-int8"]["captions"]["beam"]["caption"]
    found = edgecap("caption", "--bundle", model, model / "bundle" / golden(model)["photo"])
    assert found == (0, [expected], [])


@every_model
def test_real_photos_get_sentences_of_their_own(model: Path, real_photos: list[Path]) -> None:
    code, out, err = edgecap("caption", "--bundle", model, *real_photos)
    assert (code, err) == (0, []) and len(out) == len(real_photos) == 40
    sentences = [line.partition(": ")[2] for line in out]
    assert all(len(sentence.split()) >= 3 and sentence.endswith(".") for sentence in sentences)
    assert len(set(sentences)) >= 30


@every_model
def test_checkpoint_recipe_and_bundle_belong_together(model: Path) -> None:
    pytest.importorskip("torch", reason="reading the checkpoint needs the extra train")
    from edgecap.architectures.checkpoint import load_checkpoint
    from edgecap.training.config import TrainConfig, load_config

    path = checkpoint_of(model)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == evaluation(model)["checkpoint_sha256"]
    checkpoint = load_checkpoint(path, preset=model.name)
    # What a machine computes with is its own affair: two were told bf16, and train.toml leaves it to auto.
    asked = {"precision": checkpoint.config["precision"]}
    assert TrainConfig.from_json(checkpoint.config) == load_config(model / "train.toml", asked)
    assert Bundle.open(model / "bundle").vocabulary == checkpoint.vocabulary


@every_model
def test_figures_and_card_give_the_measured_figures(model: Path) -> None:
    results, sizes = evaluation(model)["results"], evaluation(model)["bytes"]
    int8 = results["onnx-int8"]
    assert int8["passes gate"] and int8["CIDEr-D change"] >= -1 and int8["identical captions"] >= 0.7
    card = (model / "bundle" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert set(results) == {"torch-fp32", "onnx-fp32", "onnx-int8"}
    for graphs, scores in results.items():
        size = f"{sizes[graphs] / 1e6:.1f}" if graphs in sizes else ""
        row = f"| {graphs} | {size} | " + " | ".join(f"{scores[name]:.2f}" for name in NAMES) + " |"
        assert row in card
        for dataset, own in scores.get("datasets", {}).items():
            row = f"| {dataset} | {graphs} | " + " | ".join(f"{own[name]:.2f}" for name in NAMES) + " |"
            assert row in card and (row in FIGURES or model.name != DEFAULT_BUNDLE)
    figures = " | ".join(f"{of_flickr8k(model)[name]:.2f}" for name in ("BLEU-4", "CIDEr-D"))
    row = f"| {sizes['onnx-int8'] / 1e6:.1f} | {figures} |"
    assert row in FIGURES and row in README


def test_the_figures_tell_what_int8_does_to_the_default() -> None:
    model = MODELS[DEFAULT_BUNDLE]
    int8 = evaluation(model)["results"]["onnx-int8"]
    same = f"{int8['identical captions']:.1%} | {int8['identical greedy captions']:.1%}"
    assert f"| onnx-int8 | onnx-fp32 | {int8['CIDEr-D change']:+.2f} | {same} |" in FIGURES
    assert f"| {golden(model)['graphs']['onnx-int8']['captions']['beam']['caption']} |" in README


@every_model
def test_the_bundle_verifies_here(model: Path) -> None:
    code, out, err = edgecap("verify", model / "bundle")
    assert (code, err) == (0, []) and [line.split()[0] for line in out] == ["ok"] * 3
