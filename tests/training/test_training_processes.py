"""Two processes learn what one does, and one of them speaks for both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ENVIRONMENT
from tiny_dataset import write_tiny_dataset
from training_runs import log_rows

from edgecap.architectures.checkpoint import load_checkpoint

OPTIONS = ("--preset", "plus", "--frozen-epochs", "2", "--epochs", "0", "--batch-size", "4", "--set", "min_count=1")
SETTINGS = ("precision=fp32", "backbone_weights=none", "views=1", "dropout=0", "checkpoint_every=3", "ema=0.9")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "edgecap")


def train(data: Path, run: Path, launcher: tuple[str, ...], *extra: str) -> subprocess.CompletedProcess[str]:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [sys.executable, *launcher, "train", "--data", str(data), "-o", str(run), *OPTIONS, *settings, *extra]
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_two_processes_learn_as_one_does(tmp_path: Path) -> None:
    data = write_tiny_dataset(tmp_path / "tiny", train=22, val=4)  # the last batch has a photo for each
    runs = {}
    for name, launcher in (("one", ("-m", "edgecap")), ("two", TORCHRUN)):
        done = train(data, tmp_path / name, launcher)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [f"{tmp_path / name / 'best.safetensors'}  val CIDEr-D 0.00"]
        assert done.stderr.count("frozen epoch 2: val CIDEr-D") == 1
        runs[name] = [row for row in log_rows(tmp_path / name) if row["loss"]]
    assert len(runs["one"]) == len(runs["two"]) == 12
    for one, two in zip(runs["one"], runs["two"], strict=True):
        for column in ("loss", "grad_norm", "learning_rate"):
            assert float(two[column]) == pytest.approx(float(one[column]), rel=2e-4)
    weights = [load_checkpoint(tmp_path / name / "last.safetensors").weights for name in runs]
    for key, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][key], tensor, rtol=1e-3, atol=1e-4)


def test_two_processes_stop_resume_and_share_a_cache(tmp_path: Path) -> None:
    data = write_tiny_dataset(tmp_path / "tiny", train=9, val=2)  # two batches of 4; the one of 1 is left out
    first = train(data, tmp_path / "run", TORCHRUN)
    assert first.returncode == 0 and len([row for row in log_rows(tmp_path / "run") if row["loss"]]) == 4
    again = train(data, tmp_path / "run", TORCHRUN, "--resume")
    assert again.returncode == 0 and again.stderr.count("resuming at step 4") == 1
    refused = train(data, tmp_path / "run", TORCHRUN)
    assert refused.returncode != 0 and "a run is there already" in refused.stderr
