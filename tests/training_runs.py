"""What the tests of whole training runs share: options of a short run, and comparing two runs."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edgecap.architectures.checkpoint import load_checkpoint

PLAIN: dict[str, Any] = {
    "preset": "plus",
    "backbone_weights": "none",
    "precision": "fp32",
    "min_count": 1,
    "batch_size": 4,
    "views": 1,
    "checkpoint_every": 3,
    "frozen.epochs": 2,
    "end_to_end.epochs": 0,
}


def log_rows(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def log_without_speed(run: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != "photos_per_second"} for row in log_rows(run)]


def assert_same_run(run: Path, other: Path) -> None:
    """Bit by bit, weights, optimizer, random numbers and what was measured; only the speed of a step may differ."""
    for name in ("last.safetensors", "best.safetensors"):
        one, two = (load_checkpoint(folder / name) for folder in (run, other))
        for tensors, others in ((one.weights, two.weights), (one.training_tensors, two.training_tensors)):
            assert tensors.keys() == others.keys()
            assert [key for key in tensors if not torch.equal(tensors[key], others[key])] == [], name
        empty: dict[str, Any] = {"weights": {}, "training_tensors": {}}
        assert replace(one, **empty) == replace(two, **empty)
    best = [(folder / "best.safetensors").read_bytes() for folder in (run, other)]
    assert best[0] == best[1]
    assert log_without_speed(run) == log_without_speed(other)
