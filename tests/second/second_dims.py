"""Sizes of the second architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgecap.architectures.dims import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class SecondDims:
    """A transformer of ``layers`` layers, ``feature_dim`` wide, whose cache holds ``length`` words."""

    preset: str
    vocab_size: int
    backbone: str = "two branches and a class token"
    image_size: int = 64
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channels: int = 16  # of each branch
    feature_dim: int = 32
    layers: int = 2
    length: int = 21

    @property
    def locations(self) -> int:
        return (self.image_size // 16) ** 2 + 1  # with the class token

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SecondDims:
        """Inverse of :meth:`to_json`."""
        return cls(**{**document, "mean": tuple(document["mean"]), "std": tuple(document["std"])})


PRESETS = {"second": SecondDims("second", 0)}
