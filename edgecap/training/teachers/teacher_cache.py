"""A frozen teacher's features of fixed views of photos: computed once, standardised, mirrored with their photos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecap.data.augmentation import PLAIN_VIEW
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.training.report.progress import progress
from edgecap.training.sources.batches import TeacherTensors
from edgecap.training.sources.feature_cache import FeatureCache, Features, feature_key, filled
from edgecap.training.sources.fixed_views import FixedViews
from edgecap.training.teachers import Teacher, TeacherFeatures
from edgecap.training.teachers.teacher_head import Spread, Standardisation

_STATISTICS_PHOTOS = 2000  # enough for means and deviations of channels
_LEAST = 0.1  # of the mean deviation: a channel may be dead here and alive elsewhere
_EPSILON = 1e-6


class TeacherCache:
    """Of ``paths`` the fixed ``views``, of ``val_paths`` the photos as they are.

    Features are standardised: each channel has mean 0 and deviation 1 over photos (and locations).
    """

    _views: list[Features]
    _val: Features

    def __init__(self, teacher: Teacher, paths: Sequence[Path], val_paths: Sequence[Path], views: FixedViews) -> None:
        self.teacher, self.paths, self.val_paths, self.views = teacher, paths, val_paths, views

    def prepare(self, cache: Path) -> None:
        """Compute what is not cached yet."""
        count = len(self.paths) * self.views.count + len(self.val_paths)
        with progress(f"caching {self.teacher.name}", count) as bar:
            arrays = FeatureCache(cache, bar.update)
            self._views = [self._cached(arrays, self.paths, view) for view in range(self.views.count)]
            if self.val_paths:
                self._val = self._cached(arrays, self.val_paths, PLAIN_VIEW)
        some = self._features(self._views[0][:_STATISTICS_PHOTOS])
        self._mean = TeacherFeatures(some.grid.mean(axis=(0, 1)), some.pooled.mean(axis=0))
        deviations = some.grid.std(axis=(0, 1)), some.pooled.std(axis=0)
        self._deviation = TeacherFeatures(*(np.maximum(d, _LEAST * d.mean() + _EPSILON) for d in deviations))

    def _cached(self, arrays: FeatureCache, paths: Sequence[Path], view: int) -> Features:
        teacher = self.teacher
        key = feature_key(teacher.key, self.views.recipe(paths, teacher.preprocess))

        def compute(rows: range) -> FloatArray:
            images = self.views.images(paths[rows.start : rows.stop], [view] * len(rows), teacher.preprocess)
            grid, pooled = (part[: len(rows)] for part in teacher.embed(filled(images)))
            return np.concatenate([grid.reshape(len(rows), -1), pooled], axis=1)  # (N, L * D + P)

        return arrays.features(f"{key}-view{view}", len(paths), compute)

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

    def of(
        self, indices: NDArray[np.int64], views: NDArray[np.int64], mirrored: NDArray[np.bool_] | None
    ) -> TeacherTensors:
        """Features of a view of each of N photos, and of its mirror image where ``mirrored`` (N,) says so."""
        rows = np.stack([self._views[view][index] for index, view in zip(indices, views, strict=True)])
        grid, pooled = self._standardised(rows)
        if mirrored is not None:
            grid = turned_maps(grid, mirrored)
        return TeacherTensors(torch.from_numpy(grid), torch.from_numpy(pooled))

    def val(self, rows: slice, preprocess: PreprocessConfig) -> tuple[Tensor, TeacherFeatures]:
        """Some val photos, as they are, for a student that wants them preprocessed so: images and features."""
        paths = self.val_paths[rows]
        return self.views.images(paths, [PLAIN_VIEW] * len(paths), preprocess), self._standardised(self._val[rows])


def turned_maps(grid: FloatArray, which: NDArray[np.bool_]) -> FloatArray:
    """Maps (N, L, D), their columns mirrored where ``which`` (N,) says so."""
    side = math.isqrt(grid.shape[1])
    square = grid.reshape(len(grid), side, side, -1)  # (N, rows, columns, D)
    return np.where(which[:, None, None, None], square[:, :, ::-1], square).reshape(grid.shape)
