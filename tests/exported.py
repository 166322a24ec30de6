"""What the tests of export share: a checkpoint to export, and the command run on it, whole or hurried.

A hurried export copies graphs of a bundle instead of making them, all but those of one stage. As a program this file
is ``edgecap`` with such exports: ``python exported.py BUNDLE NAMES export ...``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from tiny_dataset import write_tiny_dataset

from edgecap.architectures.backbones.weights import load_backbone_weights
from edgecap.architectures.checkpoint import Checkpoint, save_checkpoint
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.registry import preset_dims
from edgecap.cli import main
from edgecap.data.karpathy import build_vocabulary, load_dataset
from edgecap.export.graphs import ingredients, making
from edgecap.export.graphs.tflite_conversion import SAMPLE_PHOTOS
from edgecap.export.recipe import ExportRecipe
from edgecap.runtime.bundle.entries import PRECISIONS, set_name
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.training.config import TrainConfig

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
MARK = "("  # a mark that slipped into the captions as a word

CAN_CONVERT = all(find_spec(library) for library in ("onnx2tf", "tensorflow"))
needs_converter = pytest.mark.skipif(not CAN_CONVERT, reason="onnx2tf and TensorFlow make the TFLite graphs")
ENGINES = ("onnx", "tflite") if CAN_CONVERT else ("onnx",)  # that can be exported here
EVERYTHING = ExportRecipe(engines=ENGINES)
ROLES = ("encoder", "decoder_step")
SETS = tuple((engine, precision) for engine in ENGINES for precision in PRECISIONS)
SET_NAMES = tuple(set_name(*graphs) for graphs in SETS)
GRAPHS = tuple(f"{role}.{precision}.{engine}" for engine, precision in SETS for role in ROLES)

# How the lines of progress begin, and a part of the names of the graphs that are made in that stage.
STAGES = {
    "fp32 ONNX graphs": ".fp32.onnx",
    "fp32 TFLite graphs": ".fp32.tflite",
    "int8 ONNX graphs": ".int8.onnx",
    "fp16 ONNX graphs": ".fp16.onnx",
    "int8 TFLite graphs": ".int8.tflite",
    "fp16 TFLite graphs": ".fp16.tflite",
    "parity with torch": "none",
    "signal-to-noise ratio": "none",
    "captions of": "none",
    "writing the bundle": "none",
}
if not CAN_CONVERT:
    STAGES = {line: names for line, names in STAGES.items() if "TFLite" not in line}

_MAKERS = ("export_graph", "convert", "store_half", "round_weights", "quantize_statically", "quantize_dynamically")


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
    # The LSTM is just so wide that its weights are stored half.
    sizes = {"projection": (64,), "attention_dim": 48, "hidden_dim": 96, "embedding_dim": 40, "image_size": 64}
    dims = preset_dims("plus", len(vocabulary), **sizes)
    torch.manual_seed(0)
    model = CaptionModel(dims)
    load_backbone_weights(model.encoder, "imagenet")
    with torch.no_grad():
        model.decoder.output.weight.mul_(10)  # so that some words are likelier than others
        model.decoder.output.bias[vocabulary.ids[MARK]] = 20  # and the likeliest one is never to be said
    metrics = {"split": "val", "beam": 5, "step": 1200, "CIDEr-D": 45.3}
    path = folder / "best.safetensors"
    saved = Checkpoint(dims, vocabulary, model.state_dict(), TrainConfig().to_json(), metrics, {}, {})
    save_checkpoint(path, saved, half=True)
    return path


@dataclass(frozen=True)
class Run:
    """An export that has ended: its exit code, lines of stdout and stderr, and its folder for temporary files."""

    target: Path
    code: int
    out: list[str]
    err: list[str]
    scratch: Path


def export(checkpoint: Path, target: Path, *options: object, scratch: Path) -> Run:
    """Run ``edgecap export`` for every graph that can be made here, unless ``options`` choose."""
    return _ended([sys.executable, "-m", "edgecap", *_arguments(checkpoint, target, *options)], target, scratch)


def _arguments(checkpoint: Path, target: Path, *options: object) -> list[str]:
    chosen = () if CAN_CONVERT else ("--onnx",)
    return list(map(str, ("export", checkpoint, "-o", target, *chosen, *options)))


def _ended(command: list[str], target: Path, scratch: Path) -> Run:
    run = subprocess.run(command, env=_environment(scratch), capture_output=True, text=True)
    return Run(target, run.returncode, run.stdout.splitlines(), run.stderr.splitlines(), scratch)


def _environment(scratch: Path) -> dict[str, str]:
    scratch.mkdir()
    return {**ENVIRONMENT, "TMPDIR": str(scratch)}


def progress(photos: int, source: str, captions: int | None = None) -> list[str]:
    """What an export of everything says of its stages, with so many photos to calibrate on and to caption."""
    lines = ["fp32 ONNX graphs", "fp32 TFLite graphs"]
    for kind in ("ONNX", "TFLite"):
        lines += [f"int8 {kind} graphs, calibrating on {photos} photos of {source}", f"fp16 {kind} graphs"]
    lines += ["parity with torch on 8 photos", "signal-to-noise ratio of each INT8 layer"]
    if captions is not None:
        lines.append(f"captions of {captions} val photos, by torch and {len(SETS)} sets of graphs")
        lines.append("no confidence: it takes 100 val photos to calibrate")
    lines.append("writing the bundle")
    return [line for line in lines if CAN_CONVERT or "TFLite" not in line]


def hurry(bundle: Path, patch: pytest.MonkeyPatch, names: str = "none") -> None:
    """Have exports copy the graphs of ``bundle`` rather than make them, but for those with ``names`` in their names.

    Weights of a ``rounded`` graph, which no bundle has, are those of fp32.
    """

    def hurried(make: Callable[..., object]) -> Callable[..., object]:
        def copy(source: object, target: Path, *arguments: object, **options: object) -> object:
            if names in target.name:
                return make(source, target, *arguments, **options)
            shutil.copy(bundle / target.name.replace("rounded", "fp32"), target)
            return {}  # of weights that are rounded, no steps

        return copy

    for maker in _MAKERS:
        patch.setattr(making, maker, hurried(getattr(making, maker)))
    if "int8" not in names and "rounded" not in names:
        patch.setattr(ingredients, "input_moments", lambda *arguments: {})


def hurried(stage: str, bundle: Path, checkpoint: Path, target: Path, *options: object, scratch: Path) -> Run:
    """An export of everything that makes the graphs of one stage and copies the others."""
    return _ended(_hurried(stage, bundle, checkpoint, target, *options), target, scratch)


def _hurried(stage: str, bundle: Path, checkpoint: Path, target: Path, *options: object) -> list[str]:
    return [sys.executable, __file__, str(bundle), STAGES[stage], *_arguments(checkpoint, target, *options)]


def signalled(
    number: signal.Signals, stage: str, bundle: Path, checkpoint: Path, target: Path, data: Path, scratch: Path
) -> Run:
    """Send a signal to a hurried export of everything when it is in a stage; ``err`` is what it says after that.

    Once it has ended, so has every process that it started.
    """
    process = subprocess.Popen(
        _hurried(stage, bundle, checkpoint, target, "--data", data),
        env=_environment(scratch),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # by which all its processes are found
    )
    with process:
        assert process.stderr is not None and process.stdout is not None
        assert any(line.startswith(stage) for line in iter(process.stderr.readline, ""))
        if stage.startswith(("fp32 TFLite", "int8 TFLite")):  # the conversion runs in a process of its own
            eventually(lambda: any(Path(f"/proc/{n}/cwd/{SAMPLE_PHOTOS}").exists() for n in _session(process.pid)))
            assert len(_session(process.pid)) == 2
        if stage.startswith("int8 TFLite"):
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        out, err = process.stdout.read(), process.stderr.read()
    eventually(lambda: not _session(process.pid), seconds=10)
    return Run(target, process.returncode, out.splitlines(), err.splitlines(), scratch)


def eventually(happened: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something has happened that takes a moment."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.02)


def _session(leader: int) -> list[int]:
    """The processes that run in a session."""
    running = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            state, _, _, session, *_ = file.read_text().rpartition(")")[2].split()
            if int(session) == leader and state not in "ZX":  # ended, and not yet taken note of
                running.append(int(file.parent.name))
    return running


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes what runs in its background deaf to it
    hurry(Path(sys.argv[1]), pytest.MonkeyPatch(), sys.argv[2])
    main(sys.argv[3:])
