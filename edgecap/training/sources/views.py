"""The augmented views of photos that networks are shown again and again, so that their features can be cached."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgecap.data.augmentation import Augmentation, cached_view
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.photo.preprocess import PreprocessConfig, load_image, normalize


def view_images(
    paths: Sequence[Path], views: Iterable[int], preprocess: PreprocessConfig, augmentation: Augmentation, seed: int
) -> FloatArray:
    """A view of each of N photos, (N, 3, S, S) float32: it depends on the view's number and the photo's name alone."""
    images = []
    for path, view in zip(paths, views, strict=True):
        rng = np.random.default_rng((seed, view, zlib.crc32(path.name.encode())))
        images.append(np.asarray(cached_view(load_image(path, preprocess), view, rng, augmentation)))  # (S, S, 3)
    return normalize(np.stack(images), preprocess)  # (N, 3, S, S)


def views_recipe(
    paths: Sequence[Path], preprocess: PreprocessConfig, augmentation: Augmentation, seed: int
) -> list[Any]:
    """All that the views of some photos depend on, for the name of what is cached of them."""
    files = [(path.name, path.stat().st_size) for path in paths]
    return [seed, asdict(augmentation), preprocess.to_json(), files]
