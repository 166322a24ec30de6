"""From a student's features to a teacher's, and how far they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgecap.training.sources.batches import TeacherTensors
from edgecap.training.stages.losses import Term, distance_term
from edgecap.training.teachers import Teacher


class Spread(NamedTuple):
    """Of each channel."""

    deviation: NDArray[np.float32]  # (D,)
    mean: NDArray[np.float32]  # (D,)


class Standardisation(NamedTuple):
    """By what a teacher's features are standardised."""

    grid: Spread
    pooled: Spread


class TeacherHead(nn.Module):
    """From the student's features to the teacher's; it is no part of the captioner."""

    def __init__(self, student_dim: int, teacher: Teacher) -> None:
        super().__init__()
        self.grid = nn.Linear(student_dim, teacher.grid_dim)
        self.pooled = nn.Linear(student_dim, teacher.pooled_dim)

    @torch.no_grad()
    def absorb(self, projection: nn.Linear, standard: Standardisation) -> None:
        """Make the student's features the teacher's own, not standardised: ``projection`` does what this map does.

        ``projection`` is the layer that makes the student's features, as wide as the teacher's. The heads become what
        standardises these.
        """
        deviation, mean = (torch.from_numpy(values).to(projection.weight) for values in standard.grid)
        inner, outer = projection, self.grid  # features = outer(inner(x)) * deviation + mean
        weight = deviation[:, None] * (outer.weight @ inner.weight)  # (D, C)
        bias = deviation * (outer.weight @ inner.bias + outer.bias) + mean  # (D,)
        inner.weight.copy_(weight)
        inner.bias.copy_(bias)
        for head, values in ((self.grid, standard.grid), (self.pooled, standard.pooled)):
            deviation, mean = (torch.from_numpy(part).to(projection.weight) for part in values)
            head.weight.copy_(torch.diag(1 / deviation))
            head.bias.copy_(-mean / deviation)

    def terms(self, features: Tensor, wanted: TeacherTensors, *, spatial: float, pooled: float) -> list[Term]:
        """Distances of features (N, L, D) from the teacher's, weighted: of each location, and of the mean."""
        terms = []
        if spatial:
            terms.append(distance_term(self.grid(features), wanted.grid, spatial))
        if pooled:
            terms.append(distance_term(self.pooled(features.mean(dim=1)), wanted.pooled, pooled))
        return terms
