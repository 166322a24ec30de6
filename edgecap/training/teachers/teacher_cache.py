"""A frozen teacher's features of fixed views of photos: computed once, standardised, mirrored with their photos."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.training.config import TrainConfig
from edgecap.training.progress import progress
from edgecap.training.sources.feature_cache import FeatureCache, Features, feature_key
from edgecap.training.sources.views import view_images, views_recipe
from edgecap.training.teachers import Teacher, TeacherFeatures
from edgecap.training.teachers.teacher_head import Spread, Standardisation

_STATISTICS_PHOTOS = 2000  # enough for means and deviations of channels
_LEAST = 0.1  # of the mean deviation: a channel may be dead here and alive elsewhere
_EPSILON = 1e-6


class TeacherCache:
    """Of ``paths`` as many views as the configuration says, of ``val_paths`` the photos as they are.

    Features are standardised: each channel has mean 0 and deviation 1 over photos (and locations).
    """

    _views: list[Features]
    _val: Features

    def __init__(self, teacher: Teacher, paths: Sequence[Path], val_paths: Sequence[Path], config: TrainConfig) -> None:
        self.teacher, self.paths, self.val_paths, self._config = teacher, paths, val_paths, config
        self._augmentation = replace(config.augmentation, flip=False)  # features are mirrored with their photos

    def prepare(self, cache: Path) -> None:
        """Compute what is not cached yet."""
        count = len(self.paths) * self._config.teacher_views + len(self.val_paths)
        with progress(f"caching {self.teacher.name}", count) as bar:
            arrays = FeatureCache(cache, bar.update)
            self._views = [self._cached(arrays, self.paths, view) for view in range(self._config.teacher_views)]
            self._val = self._cached(arrays, self.val_paths, 0)
        some = self._features(self._views[0][:_STATISTICS_PHOTOS])
        self._mean = TeacherFeatures(some.grid.mean(axis=(0, 1)), some.pooled.mean(axis=0))
        deviations = some.grid.std(axis=(0, 1)), some.pooled.std(axis=0)
        self._deviation = TeacherFeatures(*(np.maximum(d, _LEAST * d.mean() + _EPSILON) for d in deviations))

    def _cached(self, arrays: FeatureCache, paths: Sequence[Path], view: int) -> Features:
        teacher, config = self.teacher, self._config
        recipe = views_recipe(paths, teacher.preprocess, self._augmentation, config.seed)
        key = feature_key(teacher.key, recipe)

        def compute(rows: range) -> FloatArray:
            images = self._images(paths[rows.start : rows.stop], [view] * len(rows), teacher.preprocess)
            found = teacher.embed(images)
            return np.concatenate([found.grid.reshape(len(rows), -1), found.pooled], axis=1)  # (N, L * D + P)

        return arrays.features(f"{key}-view{view}", len(paths), compute)

    def _images(self, paths: Sequence[Path], views: Iterable[int], preprocess: PreprocessConfig) -> FloatArray:
        return view_images(paths, views, preprocess, self._augmentation, self._config.seed)  # (N, 3, S, S)

    @property
    def standardisation(self) -> Standardisation:
        """How features were standardised; known when they are prepared."""
        return Standardisation(*map(Spread, self._deviation, self._mean))

    def _features(self, rows: Features) -> TeacherFeatures:
        grid, pooled = np.split(rows.astype(np.float32), [-self.teacher.pooled_dim], axis=1)
        return TeacherFeatures(grid.reshape(len(rows), -1, self.teacher.grid_dim), pooled)

    def _standardised(self, rows: Features) -> TeacherFeatures:
        standard = zip(self._features(rows), self._mean, self._deviation, strict=True)
        return TeacherFeatures(*((values - mean) / deviation for values, mean, deviation in standard))

    def views_of(
        self, indices: NDArray[np.int64], rng: np.random.Generator, preprocess: PreprocessConfig, *, flip: bool
    ) -> tuple[FloatArray, TeacherFeatures]:
        """Views of N photos drawn at random, for a student that wants them preprocessed so: images and features."""
        views = rng.integers(self._config.teacher_views, size=len(indices))
        images = self._images([self.paths[index] for index in indices], views.tolist(), preprocess)
        rows = np.stack([self._views[view][index] for index, view in zip(indices, views, strict=True)])
        mirror = rng.random(len(indices)) < (0.5 if flip else 0)
        return mirrored(images, self._standardised(rows), mirror)

    def val(self, rows: slice, preprocess: PreprocessConfig) -> tuple[FloatArray, TeacherFeatures]:
        """Some val photos, as they are."""
        paths = self.val_paths[rows]
        return self._images(paths, [0] * len(paths), preprocess), self._standardised(self._val[rows])


def mirrored(
    images: FloatArray, features: TeacherFeatures, which: NDArray[np.bool_]
) -> tuple[FloatArray, TeacherFeatures]:
    """Photos (N, 3, S, S) mirrored where ``which`` (N,) says so, and with them the columns of their maps."""
    which = which[:, None, None, None]
    side = math.isqrt(features.grid.shape[1])
    square = features.grid.reshape(len(images), side, side, -1)  # (N, rows, columns, D)
    grid = np.where(which, square[:, :, ::-1], square).reshape(features.grid.shape)
    return np.where(which, images[..., ::-1], images), TeacherFeatures(grid, features.pooled)
