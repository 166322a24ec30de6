"""The augmented views of photos that networks are shown once, and whose features are cached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgecap.data.augmentation import cached_view
from edgecap.runtime.backend import FloatArray
from edgecap.runtime.preprocess import PreprocessConfig, load_image, normalize
from edgecap.training.config import TrainConfig


def view_tensor(
    paths: Sequence[Path], rows: range, view: int, preprocess: PreprocessConfig, config: TrainConfig
) -> FloatArray:
    """View number ``view`` of some photos, (N, 3, S, S) float32, the same whenever it is asked for."""
    images = []
    for index in rows:
        rng = np.random.default_rng((config.seed, view, index))
        image = load_image(paths[index], preprocess)
        images.append(np.asarray(cached_view(image, view, rng, config.augmentation)))  # (S, S, 3)
    return normalize(np.stack(images), preprocess)  # (N, 3, S, S)
