"""The configuration of a run: its defaults, where options come from, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgecap.errors import ConfigError
from edgecap.training.config import TrainConfig, load_config


def test_the_defaults_hold_what_is_the_papers() -> None:
    config = load_config(None, {})
    assert config == TrainConfig()
    assert (config.clip_norm, config.end_to_end.learning_rate) == (5.0, 1.5e-4)


def test_flags_override_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('preset = "base"\nclip_norm = 1\n[frozen]\nepochs = 3\n[end_to_end]\nwarmup = 0.5\n')
    config = load_config(path, {"frozen.learning_rate": 0.01, "seed": 7, "end_to_end.warmup": 0})
    assert (config.preset, config.clip_norm, config.seed) == ("base", 1.0, 7)
    assert config.frozen == replace(TrainConfig().frozen, epochs=3, learning_rate=0.01)
    assert config.end_to_end == replace(TrainConfig().end_to_end, warmup=0.0)
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"momentum": 0.9}, r"unknown option 'momentum' \(known: preset, "),
        ({"frozen.momentum": 0.9}, r"unknown option 'frozen\.momentum' \(known: epochs, "),
        ({"frozen": 3}, "frozen must be a table"),
        ({"frozen": 3, "frozen.epochs": 1}, r"frozen must be a table to have 'frozen\.epochs'"),
        ({"seed.x": 1}, "seed must be int, not {'x': 1}"),
        ({"seed": 1, "seed.x": 1}, r"seed must be a table to have 'seed\.x'"),
        ({"batch_size": "64"}, "batch_size must be int, not '64'"),
        ({"batch_size": 6.5}, "batch_size must be int, not 6.5"),
        ({"batch_size": True}, "batch_size must be int, not True"),
        ({"flip": 1}, "flip must be bool, not 1"),
        ({"frozen.epochs": None}, r"frozen\.epochs must be int, not None"),
        ({"preset": "huge"}, "preset must be one of base, tiny, plus, large"),
        ({"batch_size": 0}, "batch_size, .* must be at least 1"),
        ({"views": 0}, "must be at least 1"),
        ({"checkpoint_every": -1}, "must be at least 1"),
        ({"seed": -1}, "seed must be in"),
        ({"seed": 2**64}, "seed must be in"),
        ({"dropout": 1}, r"dropout must be in \[0, 1\)"),
        ({"dropout": float("nan")}, "dropout must be in"),
        ({"crop": 0}, r"crop must be in \(0, 1\]"),
        ({"crop": 1.01}, "crop must be in"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative"),
        ({"clip_norm": 0}, "clip_norm must be above 0"),
        ({"activation": "gelu"}, "activation must be relu or leaky_relu"),
        ({"precision": "fp16"}, "precision must be auto, bf16 or fp32"),
        ({"frozen.epochs": -1}, "epochs must not be negative"),
        ({"end_to_end.learning_rate": float("inf")}, "learning rates must be finite"),
        ({"end_to_end.backbone_learning_rate": -1e-4}, "learning rates must be finite and not negative"),
        ({"frozen.warmup": 1.5}, r"warmup must be in \[0, 1\]"),
    ],
)
def test_a_wrong_option_is_named(overrides: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_config(None, overrides)


@pytest.mark.parametrize("content", [b"preset = ", b"preset = plus", b"\xff\xfe", b"[frozen\n", b"a = 1\na = 2\n"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.toml: is not a readable TOML file"):
        load_config(path, {})
    with pytest.raises(ConfigError, match=r"nowhere\.toml: is not a readable TOML file"):
        load_config(tmp_path / "nowhere.toml", {})
