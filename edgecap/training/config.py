"""The configuration of a training run: one frozen dataclass, from TOML and flags, kept in the checkpoint."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from edgecap.errors import ConfigError
from edgecap.model.dims import PRESETS

T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """One part of the training, with an optimizer and a learning-rate schedule of its own."""

    epochs: int
    learning_rate: float  # of the decoder and the projection
    backbone_learning_rate: float = 0.0
    warmup: float = 0.03  # share of the stage's steps over which the rate rises; then it falls as a cosine


@dataclass(frozen=True)
class TrainConfig:
    """Every option of ``edgecap train``.

    Optimizer, clipping and end-to-end rate are the source paper's. Its batch of 64 is not: 64 photos with all their
    captions are 320 sentences, and so few steps an epoch learnt far slower on Flickr8k than 20 photos a step.
    """

    preset: str = "plus"
    seed: int = 1
    backbone_weights: str = "imagenet"  # imagenet | none | a .safetensors file
    recalibrate_batchnorm: bool = False  # needed by weights whose BatchNorm statistics are not of photos
    activation: str = "relu"  # of a ShuffleNetV2 backbone
    min_count: int = 5  # a word that occurs less often is <unk>
    max_words: int = 20  # longer captions are cut for training
    batch_size: int = 20  # photos, each with all of its captions
    dropout: float = 0.5
    weight_decay: float = 0.01
    clip_norm: float = 5.0
    crop: float = 0.75  # random crops keep at least this share of each side
    flip: bool = True
    views: int = 4  # cached augmented views of each photo for the frozen stage
    precision: str = "bf16"  # bf16 | fp32, of the matrix products while training
    checkpoint_every: int = 50  # steps: what a killed run loses at most
    frozen: Stage = field(default_factory=lambda: Stage(epochs=8, learning_rate=8e-4))
    end_to_end: Stage = field(
        default_factory=lambda: Stage(epochs=10, learning_rate=1.5e-4, backbone_learning_rate=1.5e-4)
    )

    def __post_init__(self) -> None:
        rules = {
            f"preset must be one of {', '.join(PRESETS)}": self.preset in PRESETS,
            "batch_size, min_count, max_words, views and checkpoint_every must be at least 1": min(
                self.batch_size, self.min_count, self.max_words, self.views, self.checkpoint_every
            )
            >= 1,
            "seed must be in [0, 2 ** 63)": 0 <= self.seed < 2**63,
            "dropout must be in [0, 1)": 0 <= self.dropout < 1,
            "crop must be in (0, 1]": 0 < self.crop <= 1,
            "weight_decay must not be negative": self.weight_decay >= 0,
            "clip_norm must be above 0": self.clip_norm > 0,
            "activation must be relu or leaky_relu": self.activation in ("relu", "leaky_relu"),
            "activation leaky_relu is for preset base": self.activation == "relu" or self.preset == "base",
            "precision must be bf16 or fp32": self.precision in ("bf16", "fp32"),
            "epochs must not be negative": min(self.frozen.epochs, self.end_to_end.epochs) >= 0,
            "learning rates must be finite and not negative": all(
                math.isfinite(rate) and rate >= 0
                for stage in (self.frozen, self.end_to_end)
                for rate in (stage.learning_rate, stage.backbone_learning_rate)
            ),
            "warmup must be in [0, 1]": all(0 <= stage.warmup <= 1 for stage in (self.frozen, self.end_to_end)),
        }
        for rule, holds in rules.items():
            if not holds:
                raise ConfigError(f"training configuration: {rule}")

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TrainConfig:
        """Check names and types, then build. Raises ``ConfigError`` naming the option."""
        return _build(cls, document, prefix="")


def load_config(path: Path | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a TOML file (or the defaults) with ``overrides``, dotted names such as ``frozen.epochs``."""
    document: dict[str, Any] = {}
    if path is not None:
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: is not a readable TOML file: {error}") from error
    for name, value in overrides.items():
        table = document
        *parents, leaf = name.split(".")
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f"training configuration: {parent} must be a table to have {name!r}")
        table[leaf] = value
    return TrainConfig.from_json(document)


def _build(cls: type[T], document: Mapping[str, Any], prefix: str) -> T:
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, value in document.items():
        option = prefix + name
        if name not in hints:
            raise ConfigError(f"training configuration: unknown option {option!r} (known: {', '.join(hints)})")
        if hints[name] is Stage:
            if not isinstance(value, Mapping):
                raise ConfigError(f"training configuration: {option} must be a table")
            defaults = dataclasses.asdict(getattr(TrainConfig(), name))
            values[name] = _build(Stage, {**defaults, **value}, prefix=f"{option}.")
            continue
        if hints[name] is float and type(value) is int:
            value = float(value)
        if type(value) is not hints[name]:
            raise ConfigError(f"training configuration: {option} must be {hints[name].__name__}, not {value!r}")
        values[name] = value
    return cls(**values)
