"""Several teachers as one: their features side by side. All of them see 224 x 224 pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.training.teachers.teacher import Teacher, TeacherFeatures


class EnsembleTeacher:
    """Photos come as the first member wants them, and are normalised anew for the others."""

    def __init__(self, members: Sequence[Teacher]) -> None:
        self._members = members
        self.name = "+".join(member.name for member in members)
        self.key = hashlib.sha256("".join(member.key for member in members).encode()).hexdigest()
        self.preprocess = members[0].preprocess
        self.grid_dim = sum(member.grid_dim for member in members)
        self.pooled_dim = sum(member.pooled_dim for member in members)

    def embed(self, images: FloatArray) -> TeacherFeatures:
        found = [member.embed(self._for(member.preprocess, images)) for member in self._members]
        grid = np.concatenate([features.grid for features in found], axis=2)  # (N, 49, sum of D)
        return TeacherFeatures(grid, np.concatenate([features.pooled for features in found], axis=1))

    def _for(self, wanted: PreprocessConfig, images: FloatArray) -> FloatArray:
        mean, std, new_mean, new_std = (
            np.array(values, np.float32)[:, None, None]
            for values in (self.preprocess.mean, self.preprocess.std, wanted.mean, wanted.std)
        )
        same: FloatArray = ((images * std + mean) - new_mean) / new_std
        return same
