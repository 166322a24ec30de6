"""What the tests of export share: a checkpoint to export, and the command run on it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from conftest import CALIBRATION_PHOTOS, ROOT
from tiny_dataset import write_tiny_dataset

from edgecap.data.karpathy import build_vocabulary, load_dataset
from edgecap.export.recipe import ExportRecipe
from edgecap.model.backbone_weights import load_backbone_weights
from edgecap.model.captioner import CaptionModel
from edgecap.model.checkpoint import Checkpoint, save_checkpoint
from edgecap.model.dims import preset_dims
from edgecap.runtime.bundle import MANIFEST, Bundle
from edgecap.runtime.vocabulary import Vocabulary
from edgecap.training.config import TrainConfig

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
GRAPHS = tuple(f"{role}.{precision}.onnx" for role in ("encoder", "decoder_step") for precision in ("fp32", "int8"))
MARK = "("  # a mark that slipped into the captions as a word
BOTH = ExportRecipe(precisions=("fp32", "int8"))


def quiet(line: str) -> None:
    """Takes what an export says of its stages."""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def document(bundle: Path, name: str) -> Any:
    return json.loads((bundle / name).read_text())


def write_checkpoint(folder: Path) -> Path:
    """Write ``best.safetensors``: a ``plus`` with an untrained, narrow decoder, for photos of 64 x 64."""
    dataset = load_dataset(write_tiny_dataset(folder / "tiny", train=30, val=4))
    words = build_vocabulary(dataset.split("train"), 1).tokens
    vocabulary = Vocabulary((*words, MARK, *(f"word{n}" for n in range(43 - len(words)))))
    sizes = {"projection": (64,), "attention_dim": 48, "hidden_dim": 56, "embedding_dim": 40, "image_size": 64}
    dims = preset_dims("plus", len(vocabulary), **sizes)
    torch.manual_seed(0)
    model = CaptionModel(dims)
    load_backbone_weights(model.encoder, dims.backbone, "imagenet")
    with torch.no_grad():
        model.decoder.output.weight.mul_(10)  # so that some words are likelier than others
        model.decoder.output.bias[vocabulary.ids[MARK]] = 20  # and the likeliest one is never to be said
    metrics = {"split": "val", "beam": 5, "step": 1200, "CIDEr-D": 45.3}
    path = folder / "best.safetensors"
    saved = Checkpoint(dims, vocabulary, model.state_dict(), TrainConfig().to_json(), metrics, {}, {})
    save_checkpoint(path, saved, half=True)
    return path


def command(checkpoint: Path, target: Path, photos: Path) -> list[str]:
    arguments = ("export", checkpoint, "-o", target, "--fp32", "--int8", "--calibration", photos)
    return [sys.executable, "-m", "edgecap", *map(str, arguments)]


def export_by_command(checkpoint: Path, target: Path, photos: Path) -> Path:
    """Export through the command, and check all that it says."""
    run = subprocess.run(command(checkpoint, target, photos), env=ENVIRONMENT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    manifest = Bundle.open(target).manifest
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file() and path.name != MANIFEST)
    assert run.stdout == f"{target}  plus@{manifest.bundle_id[:12]}  {size / 1e6:.1f} MB\n"
    assert run.stderr.splitlines() == [
        "fp32 graphs",
        f"int8 graphs, calibrating on {CALIBRATION_PHOTOS} photos of calibration",
        "parity with torch on 8 photos",
        "writing the bundle",
    ]
    assert [path.name for path in target.parent.iterdir()] == ["bundle"]
    return target
