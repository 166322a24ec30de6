"""The augmented views of photos that networks are shown again and again, so that their features can be cached."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecap.data.augmentation import Augmentation, cached_view
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.photo.preprocess import PreprocessConfig, load_image, normalize
from edgecap.training.config import TrainConfig
from edgecap.training.sources.feature_cache import photo_facts
from edgecap.training.sources.workers import in_order


@dataclass(frozen=True)
class FixedViews:
    """``count`` views of every photo. Each depends on the seed, its number and the photo's name alone."""

    count: int
    augmentation: Augmentation
    seed: int
    workers: int = 1  # threads that read photos

    @classmethod
    def of(cls, config: TrainConfig, count: int, *, flip: bool = True) -> FixedViews:
        """As a configuration augments; without ``flip`` none is mirrored, as whoever shows them will do it."""
        augmentation = config.augmentation if flip else replace(config.augmentation, flip=False)
        return cls(count, augmentation, config.seed, config.workers)

    def images(self, paths: Sequence[Path], views: Iterable[int], preprocess: PreprocessConfig) -> FloatArray:
        """A view of each of N photos, (N, 3, S, S) float32. Raises ``ImageError`` naming one that cannot be read."""

        def image(of: tuple[Path, int]) -> FloatArray:
            path, view = of
            rng = np.random.default_rng((self.seed, view, zlib.crc32(path.name.encode())))
            pixels = np.asarray(cached_view(load_image(path, preprocess), view, rng, self.augmentation))  # (S, S, 3)
            return normalize(pixels[np.newaxis], preprocess)  # (1, 3, S, S)

        return np.concatenate(in_order(image, list(zip(paths, views, strict=True)), self.workers))

    def recipe(self, paths: Sequence[Path], preprocess: PreprocessConfig) -> list[Any]:
        """All that the views of some photos depend on, for the name of what is cached of them."""
        return [self.seed, asdict(self.augmentation), preprocess.to_json(), photo_facts(paths)]
