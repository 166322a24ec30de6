"""Several teachers as one: their features side by side. All of them see 224 x 224 pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

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

    def embed(self, images: Tensor) -> TeacherFeatures:
        found = [member.embed(self._for(member.preprocess, images)) for member in self._members]
        grid = np.concatenate([features.grid for features in found], axis=2)  # (N, 49, sum of D)
        return TeacherFeatures(grid, np.concatenate([features.pooled for features in found], axis=1))

    def _for(self, wanted: PreprocessConfig, images: Tensor) -> Tensor:
        mean, std, new_mean, new_std = (
            torch.tensor(values, device=images.device)[:, None, None]
            for values in (self.preprocess.mean, self.preprocess.std, wanted.mean, wanted.std)
        )
        return ((images * std + mean) - new_mean) / new_std
