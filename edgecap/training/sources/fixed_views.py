"""The augmented views of photos that networks are shown again and again, so that their features can be cached."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from edgecap.data.augmentation import Augmentation, Cut, fixed_cut
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.training.config import TrainConfig
from edgecap.training.sources.feature_cache import photo_facts
from edgecap.training.sources.photos import Photos


@dataclass(frozen=True)
class FixedViews:
    """``count`` views of every photo. Each depends on the seed, its number and the photo's name alone."""

    count: int
    augmentation: Augmentation
    seed: int
    photos: Photos

    @classmethod
    def of(cls, config: TrainConfig, count: int, photos: Photos, *, flip: bool = True) -> FixedViews:
        """As a configuration augments; without ``flip`` none is mirrored, as whoever shows them will do it."""
        augmentation = config.augmentation if flip else replace(config.augmentation, flip=False)
        return cls(count, augmentation, config.seed, photos)

    def cuts(self, paths: Sequence[Path], views: Iterable[int]) -> list[Cut]:
        """What a view of each of N photos shows."""
        return [
            fixed_cut(view, np.random.default_rng((self.seed, view, zlib.crc32(path.name.encode()))), self.augmentation)
            for path, view in zip(paths, views, strict=True)
        ]

    def images(self, paths: Sequence[Path], views: Iterable[int], preprocess: PreprocessConfig) -> Tensor:
        """A view of each of N photos, (N, 3, S, S) float32. Raises ``ImageError`` naming one that cannot be read."""
        return self.photos.images(paths, self.cuts(paths, views), preprocess)

    def recipe(self, paths: Sequence[Path], preprocess: PreprocessConfig) -> list[Any]:
        """All that the views of some photos depend on, for the name of what is cached of them."""
        known = [self.seed, asdict(self.augmentation), preprocess.to_json(), photo_facts(paths)]
        return known if self.photos.interpolation == "bicubic" else [*known, self.photos.interpolation]
