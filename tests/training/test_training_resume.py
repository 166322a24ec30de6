"""Runs that are stopped or killed, at chosen steps and by real signals, resume to the same bits."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from places import ROOT
from training_runs import PLAIN, assert_same_run, log_rows, log_without_speed

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.data.karpathy import CaptionDataset
from edgecap.training.report.log import LogRow, TrainingLog
from edgecap.training.run import train_run
from edgecap.training.sources.batches import made_ahead

pytestmark = pytest.mark.usefixtures("one_torch_thread")
# One thread, as in this process: a run is compared bit by bit, and has the cores for itself nowhere.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


# Interrupted at chosen steps, on a frozen backbone: two epochs of four steps


@pytest.fixture(scope="module")
def uninterrupted(dataset: CaptionDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("frozen") / "run"
    train_run(dataset, run, overrides=PLAIN, say=lambda line: None)
    return run


@pytest.fixture
def started(uninterrupted: Path, tmp_path: Path) -> Path:
    """A run folder with nothing but the grids that the other run cached."""
    shutil.copytree(uninterrupted / "cache", tmp_path / "run" / "cache")
    return tmp_path / "run"


def resumed(dataset: CaptionDataset, run: Path) -> list[str]:
    said: list[str] = []
    train_run(dataset, run, resume=True, say=said.append)
    return said


@pytest.mark.parametrize(
    ("step", "number"), [(1, signal.SIGINT), (3, signal.SIGTERM), (4, signal.SIGINT), (5, signal.SIGINT)]
)
def test_a_signal_within_a_step_stops_after_it(
    dataset: CaptionDataset,
    uninterrupted: Path,
    started: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    number: signal.Signals,
) -> None:
    def append(log: TrainingLog, row: LogRow) -> None:
        real(log, row)
        if row.loss is not None and row.step == step:
            signal.raise_signal(number)

    real, said = TrainingLog.append, list[str]()
    monkeypatch.setattr(TrainingLog, "append", append)
    with pytest.raises(KeyboardInterrupt):
        train_run(dataset, started, overrides=PLAIN, say=said.append)
    monkeypatch.undo()
    assert said[-1] == f"stopped at step {step}; continue with --resume"
    assert load_checkpoint(started / "last.safetensors").training["step"] == step
    assert resumed(dataset, started)[0] == f"resuming at step {step}"
    assert_same_run(started, uninterrupted)


def test_a_signal_after_the_last_step_of_an_epoch_is_not_lost(
    dataset: CaptionDataset, uninterrupted: Path, started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(batches: Iterator[Any]) -> Iterator[Any]:
        yield from made_ahead(batches)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("edgecap.training.trainer.made_ahead", late)
    with pytest.raises(KeyboardInterrupt):
        train_run(dataset, started, overrides=PLAIN, say=lambda line: None)
    monkeypatch.undo()
    assert resumed(dataset, started)[0] == "resuming at step 4"
    assert_same_run(started, uninterrupted)


@pytest.mark.parametrize("every", [3, 4])
def test_a_run_that_dies_in_a_validation_repeats_it(
    dataset: CaptionDataset,
    uninterrupted: Path,
    started: Path,
    monkeypatch: pytest.MonkeyPatch,
    every: int,
) -> None:
    """With a checkpoint of every fourth step there is one of this very step, from before the validation."""

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    overrides = {**PLAIN, "checkpoint_every": every}
    monkeypatch.setattr("edgecap.training.trainer.plot_curve", die)
    with pytest.raises(KeyboardInterrupt):
        train_run(dataset, started, overrides=overrides, say=lambda line: None)
    assert log_rows(started)[-1]["val_cider_d"]
    monkeypatch.undo()
    (started / "best.safetensors.123.partial").touch()  # as a kill leaves it
    assert resumed(dataset, started)[0] == f"resuming at step {every}"
    assert not list(started.glob("*.partial"))
    assert log_without_speed(started) == log_without_speed(uninterrupted)
    weights = [load_checkpoint(run / "last.safetensors").weights for run in (started, uninterrupted)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("step", [4, 6])
def test_only_every_second_epoch_and_the_last_are_validated_whatever_stops_the_run(
    dataset: CaptionDataset, uninterrupted: Path, started: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Stopped after an epoch that is not validated, or within one that will be."""
    overrides, whole = {**PLAIN, "frozen.epochs": 3, "validate_every": 2}, started.parent / "whole"
    shutil.copytree(uninterrupted / "cache", whole / "cache")
    train_run(dataset, whole, overrides=overrides, say=lambda line: None)
    assert [(row["epoch"], row["step"]) for row in log_rows(whole) if row["val_cider_d"]] == [("2", "8"), ("3", "12")]

    def append(log: TrainingLog, row: LogRow) -> None:
        real(log, row)
        if row.loss is not None and row.step == step:
            signal.raise_signal(signal.SIGINT)

    real = TrainingLog.append
    monkeypatch.setattr(TrainingLog, "append", append)
    with pytest.raises(KeyboardInterrupt):
        train_run(dataset, started, overrides=overrides, say=lambda line: None)
    monkeypatch.undo()
    assert not any(row["val_cider_d"] for row in log_rows(started))
    assert resumed(dataset, started)[0] == f"resuming at step {step}"
    assert_same_run(started, whole)


def test_a_run_may_go_on_with_other_validations(dataset: CaptionDataset, started: Path) -> None:
    overrides = {**PLAIN, "frozen.epochs": 4, "validate_every": 3}

    def stop(line: str) -> None:
        if line.startswith("frozen epoch 3: "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(dataset, started, overrides=overrides, say=stop)
    train_run(dataset, started, overrides={"validate_every": 1}, resume=True, say=lambda line: None)
    assert [row["epoch"] for row in log_rows(started) if row["val_cider_d"]] == ["3", "4"]


# The command, both stages, real signals


OPTIONS = ("--preset", "plus", "--frozen-epochs", 1, "--epochs", 1, "--batch-size", 4, "--set", "checkpoint_every=3")
SETTINGS = ("--set", "views=1", "--set", "min_count=1", "--set", "precision=fp32", "--set", "backbone_weights=none")


def start(data: Path, run: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgecap", "train", "--data", str(data), "-o", str(run), *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    """Until the log has the row of that step."""
    while process.poll() is None:
        if (run / "log.csv").exists() and any(row["step"] == str(step) for row in log_rows(run)):
            return
        time.sleep(0.005)
    raise AssertionError(f"the run ended before step {step}: {finish(process)}")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the command that nothing disturbed: four steps on the frozen backbone, four end to end."""
    run = tmp_path_factory.mktemp("trained") / "run"
    code, out, err = finish(start(data, run, *OPTIONS, *SETTINGS))
    assert code == 0, err
    (line,) = out.splitlines()
    assert line.startswith(f"{run / 'best.safetensors'}  val CIDEr-D ")
    assert [row["stage"] for row in log_rows(run)] == ["frozen"] * 5 + ["end_to_end"] * 5
    return run


def stop_at(data: Path, run: Path, step: int, stop: Callable[[subprocess.Popen[str]], None]) -> tuple[int, str, str]:
    with start(data, run, *OPTIONS, *SETTINGS) as process:
        wait_for_step(process, run, step)
        stop(process)
        return finish(process)


def test_ctrl_c_stops_after_the_step_and_resume_gives_the_same_bits(data: Path, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, out, err = stop_at(data, run, 5, lambda process: process.send_signal(signal.SIGINT))
    assert (code, out) == (130, "") and "Traceback" not in err
    step = load_checkpoint(run / "last.safetensors").training["step"]
    assert 5 <= step < 8 and f"stopped at step {step}; continue with --resume" in err
    code, _, err = finish(start(data, run, "--resume"))
    assert code == 0 and f"resuming at step {step}" in err
    assert_same_run(run, trained)


def test_a_killed_run_resumes_from_its_checkpoint_to_the_same_bits(data: Path, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, _, _ = stop_at(data, run, 7, subprocess.Popen.kill)
    assert code == -signal.SIGKILL
    assert load_checkpoint(run / "last.safetensors").training["step"] == 6
    code, _, err = finish(start(data, run, *OPTIONS, *SETTINGS, "--resume"))  # the same options are no other ones
    assert code == 0 and "resuming at step 6" in err
    assert_same_run(run, trained)


def test_errors_of_the_command_are_one_line(data: Path, trained: Path) -> None:
    before = (trained / "last.safetensors").read_bytes()
    code, out, err = finish(start(data, trained, *OPTIONS, *SETTINGS))
    assert (code, out) == (1, "") and err.splitlines() == [
        f"edgecap: {trained / 'last.safetensors'}: a run is there already: continue it with --resume, or name another "
        "folder"
    ]
    code, out, err = finish(start(data, trained, "--resume", "--seed", 2))
    assert (code, out, len(err.splitlines())) == (1, "", 1) and "was made with another configuration" in err
    assert (trained / "last.safetensors").read_bytes() == before
