"""Whole runs: what they leave, and what does not start or resume."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_dataset import write_tiny_dataset
from training_runs import PLAIN, assert_same_run, log_rows

from edgecap.architectures.checkpoint import load_checkpoint, save_checkpoint
from edgecap.architectures.network import CaptionNetwork, ForcedWords
from edgecap.data.karpathy import CaptionDataset, load_dataset
from edgecap.errors import CheckpointError, ConfigError, DataError, TrainingError
from edgecap.training.config import TrainConfig
from edgecap.training.report.log import TrainingLog
from edgecap.training.run import train_run
from edgecap.training.state import Position

pytestmark = pytest.mark.usefixtures("one_torch_thread")
Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], object]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight epochs on a frozen, random backbone. Not to be written to."""
    folder = tmp_path_factory.mktemp("learnt")
    dataset = load_dataset(write_tiny_dataset(folder / "tiny"))
    overrides = {
        **PLAIN,
        "batch_size": 8,
        "frozen.epochs": 8,
        "frozen.learning_rate": 1e-3,
        "dropout": 0.1,
        "recalibrate_batchnorm": True,
    }
    said: list[str] = []
    result = train_run(dataset, folder / "run", overrides=overrides, say=said.append)
    assert result.checkpoint == folder / "run" / "best.safetensors"
    assert said[0].startswith("warning: only 19 words of train's captions, where a word must stand once (min_count)")
    assert said[1] == "backbone: random weights"
    assert [line for line in said if "val CIDEr-D" in line][-1].startswith("frozen epoch 8: val CIDEr-D ")
    return folder / "run"


def test_the_loss_falls(learnt: Path) -> None:
    losses = [float(row["loss"]) for row in log_rows(learnt) if row["loss"]]
    assert len(losses) == 8 * 5
    words = len(load_checkpoint(learnt / "best.safetensors").vocabulary)
    assert losses[0] == pytest.approx(np.log(words), abs=0.3)
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def test_what_a_run_leaves(learnt: Path) -> None:
    assert {path.name for path in learnt.iterdir()} == {
        "best.safetensors",
        "last.safetensors",
        "log.csv",
        "curve.png",
        "cache",
    }
    rows = log_rows(learnt)
    assert list(rows[0]) == [
        "stage",
        "epoch",
        "step",
        "loss",
        "learning_rate",
        "grad_norm",
        "photos_per_second",
        "val_cider_d",
        "val_bleu_4",
        "val_loss",
        "val_datasets",
    ]
    steps = [row for row in rows if row["loss"]]
    validations = [row for row in rows if row["val_cider_d"]]
    assert [int(row["step"]) for row in steps] == list(range(1, 41))
    assert [int(row["step"]) for row in validations] == list(range(5, 41, 5))
    assert all(0 < float(row["val_loss"]) < 10 for row in validations) and not any(row["val_loss"] for row in steps)
    assert float(validations[-1]["val_loss"]) < float(validations[0]["val_loss"])
    assert all(float(row["grad_norm"]) > 0 and float(row["photos_per_second"]) > 0 for row in steps)
    with Image.open(learnt / "curve.png") as curve:
        curve.load()
        assert curve.format == "PNG" and min(curve.size) >= 300


def test_the_best_checkpoint_is_of_the_best_validation(learnt: Path) -> None:
    best, last = load_checkpoint(learnt / "best.safetensors"), load_checkpoint(learnt / "last.safetensors")
    validations = [row for row in log_rows(learnt) if row["val_cider_d"]]
    figures = {int(row["step"]): float(row["val_cider_d"]) for row in validations}
    losses = {int(row["step"]): float(row["val_loss"]) for row in validations}
    step = max(figures, key=lambda step: (figures[step], -losses[step]))  # of equals that with the lower loss
    assert best.metrics["step"] == step and best.metrics["split"] == "val" and best.metrics["beam"] == 5
    assert best.metrics["CIDEr-D"] == pytest.approx(figures[step], abs=1e-3)
    assert (best.training, best.training_tensors) == ({}, {})
    assert last.training["step"] == 40 and last.training["best_cider_d"] == pytest.approx(figures[step], abs=1e-3)
    assert last.training["best_loss"] == pytest.approx(losses[step], abs=1e-3)
    assert TrainConfig.from_json(best.config).frozen.epochs == 8


def test_a_run_is_not_overwritten_and_not_changed(learnt: Path, dataset: CaptionDataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(learnt / "last.safetensors", run)
    before = (run / "last.safetensors").read_bytes()

    def refused(error: type[Exception], problem: str, **options: Any) -> None:
        with pytest.raises(error, match=rf"last\.safetensors.* {problem}"):
            train_run(dataset, run, say=lambda line: None, **options)
        assert [path.name for path in run.iterdir()] == ["last.safetensors"]
        assert (run / "last.safetensors").read_bytes() == before

    refused(CheckpointError, "a run is there already: continue it with --resume", overrides=PLAIN)
    refused(ConfigError, "was made with another configuration", overrides=PLAIN, resume=True)
    refused(CheckpointError, "is of preset 'plus', not 'base'", overrides={"preset": "base"}, resume=True)
    shutil.copy(learnt / "best.safetensors", run / "last.safetensors")
    before = (run / "last.safetensors").read_bytes()
    refused(CheckpointError, "holds a model without training state and cannot be resumed", resume=True)
    (run / "last.safetensors").write_bytes(before[:-100])
    before = before[:-100]
    refused(CheckpointError, "is torn", resume=True)


def test_a_checkpoint_of_another_preset_than_its_config_is_refused(
    learnt: Path, dataset: CaptionDataset, tmp_path: Path
) -> None:
    saved = load_checkpoint(learnt / "last.safetensors")
    save_checkpoint(
        tmp_path / "last.safetensors", replace(saved, config={**saved.config, "preset": "base"}), half=False
    )
    with pytest.raises(CheckpointError, match=r"last\.safetensors: is of preset 'plus', not 'base'"):
        train_run(dataset, tmp_path, resume=True, say=lambda line: None)


def test_nothing_to_resume_and_nothing_to_train(dataset: CaptionDataset, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"last\.safetensors: no such checkpoint file"):
        train_run(dataset, tmp_path / "run", resume=True, say=lambda line: None)
    with pytest.raises(ConfigError, match="all stages have 0 epochs"):
        train_run(dataset, tmp_path / "run", overrides={**PLAIN, "frozen.epochs": 0}, say=lambda line: None)


def test_a_finished_run_resumes_to_itself(learnt: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(learnt, run)
    train_run(load_dataset(learnt.parent / "tiny"), run, resume=True, say=lambda line: None)
    assert_same_run(run, learnt)


def test_of_equal_figures_the_lower_loss_is_the_best() -> None:
    none = Position()
    first = none.improved(0.0, 3.0)
    assert first == Position(best_cider_d=0.0, best_loss=3.0)
    assert first.improved(0.0, 3.0) is None and first.improved(0.0, 3.5) is None and first.improved(-0.1, 1.0) is None
    assert first.improved(0.0, 2.0) == Position(best_cider_d=0.0, best_loss=2.0)
    assert first.improved(0.1, 9.0) == Position(best_cider_d=0.1, best_loss=9.0)
    assert first.improved(0.1, float("nan")) == Position(best_cider_d=0.1, best_loss=None)
    former = Position.from_json({"stage": 1, "epoch": 0, "batch": 0, "step": 9, "best_cider_d": 0.0})
    assert former.improved(0.0, 0.1) is None  # of a run whose loss nobody kept


def drop(name: str) -> Change:
    return lambda training, tensors: tensors.pop(name)


@pytest.mark.parametrize(
    "change",
    [
        lambda training, tensors: training.update(step=1.5),
        lambda training, tensors: training.update(stage=-1),
        lambda training, tensors: training.update(mood="good"),
        lambda training, tensors: training.update(best_cider_d="high"),
        drop("rng.torch"),
        lambda training, tensors: tensors.update({"rng.torch": torch.zeros(3)}),
        lambda training, tensors: tensors.update({"optimizer.0.exp_avg": torch.zeros(3)}),
        lambda training, tensors: tensors.update({"optimizer.x": torch.zeros(3)}),
        lambda training, tensors: tensors.update({"optimizer.999.exp_avg": torch.zeros(3)}),
        lambda training, tensors: tensors.update(
            {"average.steps": torch.tensor(1), "average.weights.x": torch.zeros(1)}
        ),
    ],
)
def test_a_training_state_that_does_not_fit_is_one_error(
    dataset: CaptionDataset, stopped: Path, tmp_path: Path, change: Change
) -> None:
    saved = load_checkpoint(stopped / "last.safetensors")
    training, tensors = dict(saved.training), dict(saved.training_tensors)
    change(training, tensors)
    shutil.copytree(stopped, tmp_path / "run")
    spoilt = replace(saved, training=training, training_tensors=tensors)
    save_checkpoint(tmp_path / "run" / "last.safetensors", spoilt, half=False)
    with pytest.raises(CheckpointError, match=r"last\.safetensors: has a training state that does not fit: "):
        train_run(dataset, tmp_path / "run", resume=True, say=lambda line: None)


@pytest.fixture(scope="module")
def stopped(dataset: CaptionDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped within an epoch. Not to be written to."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingLog, "append", lambda log, row: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train_run(dataset, run, overrides=PLAIN, say=lambda line: None)
    return run


def test_another_dataset_is_not_resumed_on(learnt: Path, tmp_path: Path) -> None:
    other = write_tiny_dataset(tmp_path / "other")
    captions = other / "dataset_tiny.json"
    captions.write_text(captions.read_text().replace('"circle"', '"disc"'))
    with pytest.raises(DataError, match=r"dataset_tiny\.json: is not what the run in .* was trained on"):
        train_run(load_dataset(other), learnt, resume=True, say=lambda line: None)


def test_a_gradient_that_is_not_finite_stops_the_run(
    dataset: CaptionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = CaptionNetwork.forced_words

    def broken(*inputs: Any) -> ForcedWords:
        words = real(*inputs)
        return words._replace(log_probs=words.log_probs * float("nan"))

    monkeypatch.setattr(CaptionNetwork, "forced_words", broken)
    with pytest.raises(TrainingError, match="the gradient of step 1 is not finite"):
        train_run(dataset, tmp_path / "run", overrides=PLAIN, say=lambda line: None)
