"""What every teacher offers."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgecap.runtime.photo.preprocess import PreprocessConfig


class TeacherFeatures(NamedTuple):
    """Of N photos, float32."""

    grid: NDArray[np.float32]  # (N, 49, D), locations row by row, as the student's
    pooled: NDArray[np.float32]  # (N, P), one embedding of the whole photo


class Teacher(Protocol):
    """A frozen network."""

    name: str
    key: str  # a hash of its weights
    preprocess: PreprocessConfig
    grid_dim: int  # D
    pooled_dim: int  # P

    def embed(self, images: Tensor) -> TeacherFeatures:
        """Photos (N, 3, S, S) float32, preprocessed as the teacher wants them -> features."""
