"""The configuration of a run: its defaults, where options come from, and what is refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import edgecap_here

from edgecap.errors import ConfigError, ConfigOptionError
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
        ({"epochs": 3}, r"unknown option 'epochs' \(known: preset, "),
        ({"batchsize": 3}, r"unknown option 'batchsize' \(did you mean batch_size\? known: "),
        ({"frozen.epochs": 10**9}, "frozen: epochs must be at most 10,000"),
        ({"frozen.epochs": 1e9}, r"frozen\.epochs must be a whole number, not 1000000000\.0"),
        ({"batch_size": 10**9}, "batch_size must be at most 65,536"),
        ({"language.batch_size": 10**9}, "language: batch_size must be at most 65,536"),
        ({"distillation.batch_size": 10**9}, "distillation: batch_size must be at most 65,536"),
        ({"views": 10**9}, "views, teacher_views and task_views must be at most 1000"),
        ({"max_words": 10**9}, "max_words must be at most 200"),
        ({"self_critical.samples": 10**9}, "self_critical: samples must be at least 2, and at most 100"),
        ({"frozen.learning_rate": 1e9}, "frozen: learning rates must be at most 10"),
        ({"weight_decay": 1e9}, "weight_decay must be at most 1"),
        ({"checkpoint_every": 10**5000}, "checkpoint_every must have fewer digits"),
        ({"clip_norm": 10**5000}, "clip_norm must have fewer digits"),
        ({"preset": "x" * 100_000}, "preset must be one of"),
        ({"batch_size": "x" * 100_000}, r"batch_size must be a whole number, not 'x{39}$"),
        ({"x" * 100_000: 1}, r"unknown option 'x{59} \("),
        ({"momentum": 0.9}, r"unknown option 'momentum' \(known: preset, "),
        ({"frozen.momentum": 0.9}, r"unknown option 'frozen\.momentum' \(known: epochs, "),
        ({"frozen": 3}, "frozen must be a table"),
        ({"frozen": 3, "frozen.epochs": 1}, r"frozen must be a table to have 'frozen\.epochs'"),
        ({"seed.x": 1}, "seed must be a whole number, not {'x': 1}"),
        ({"seed": 1, "seed.x": 1}, r"seed must be a table to have 'seed\.x'"),
        ({"batch_size": "64"}, "batch_size must be a whole number, not '64'"),
        ({"batch_size": 6.5}, "batch_size must be a whole number, not 6.5"),
        ({"batch_size": True}, "batch_size must be a whole number, not True"),
        ({"flip": 1}, "flip must be true or false, not 1"),
        ({"frozen.epochs": None}, r"frozen\.epochs must be a whole number, not None"),
        ({"preset": "huge"}, "preset must be one of base, tiny, plus, large"),
        ({"batch_size": 0}, "batch_size, .* must be at least 1"),
        ({"views": 0}, "must be at least 1"),
        ({"checkpoint_every": -1}, "must be at least 1"),
        ({"validate_every": 0}, r"validate_every must be in \[1, 10,000\]"),
        ({"validate_every": 10**9}, r"validate_every must be in \[1, 10,000\]"),
        ({"keep_photos": "maybe"}, "keep_photos must be auto, yes or no"),
        ({"pseudo_temperature": 0}, r"pseudo_temperature must be in \[0\.01, 10\]"),
        ({"pseudo_captions": 6}, r"pseudo_captions must be in \[0, 5\]"),
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
    with pytest.raises(ConfigOptionError, match=problem) as caught:
        load_config(None, overrides)
    assert len(str(caught.value)) < 1000


def test_what_is_wrong_without_the_options_is_not_theirs(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("views = 0")
    assert load_config(path, {"views": 3}).views == 3
    with pytest.raises(ConfigError, match=r"views, .* must be at least 1") as caught:
        load_config(path, {"batch_size": 3})
    assert not isinstance(caught.value, ConfigOptionError)


def test_a_pipe_or_device_is_no_configuration(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ConfigError, match=r"is not a readable TOML file: .* is no regular file"):
            load_config(path, {})


@pytest.mark.parametrize(
    "arguments",
    [
        ("--set", "frozen.epochs=1e9"),
        ("--set", "frozen.epochs=many"),
        ("--set", "momentum=0.9"),
        ("--set", "seed"),
        ("--set", f"clip_norm={'[' * 100_000}"),
        ("--set", f"batch_size={'9' * 5000}"),
        ("--epochs", -1),
        ("--frozen-epochs", 10**9),
    ],
)
def test_wrong_options_of_the_command_are_exit_2(data: Path, tmp_path: Path, arguments: tuple[object, ...]) -> None:
    code, out, err = edgecap_here("train", "--data", data, "-o", tmp_path / "run", *arguments)
    assert (code, out) == (2, []) and len(err[-1]) < 1000 and not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"preset = ", b"preset = plus", b"\xff\xfe", b"[frozen\n", b"a = 1\na = 2\n"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.toml: is not a readable TOML file"):
        load_config(path, {})
    with pytest.raises(ConfigError, match=r"nowhere\.toml: is not a readable TOML file"):
        load_config(tmp_path / "nowhere.toml", {})


def test_a_configuration_of_before_is_read_unless_it_used_an_option_that_is_gone() -> None:
    before = {**TrainConfig().to_json(), "scheduled_sampling": 0.0, "attention_penalty": 0.0}
    assert TrainConfig.from_json(before) == TrainConfig()
    with pytest.raises(ConfigError, match="there is no option 'attention_penalty' any more: it made captions worse"):
        TrainConfig.from_json({**before, "attention_penalty": 1.0})
