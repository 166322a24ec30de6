"""From a student's features to a teacher's, and how far they are."""

from __future__ import annotations

from torch import Tensor, nn

from edgecap.model.teachers import Teacher
from edgecap.training.batches import TeacherTensors
from edgecap.training.losses import Term, distance_term


class TeacherHead(nn.Module):
    """From the student's features to the teacher's; nothing of it is kept in the captioner."""

    def __init__(self, student_dim: int, teacher: Teacher) -> None:
        super().__init__()
        self.grid = nn.Linear(student_dim, teacher.grid_dim)
        self.pooled = nn.Linear(student_dim, teacher.pooled_dim)

    def terms(self, features: Tensor, wanted: TeacherTensors, *, spatial: float, pooled: float) -> list[Term]:
        """Distances of features (N, L, D) from the teacher's, weighted: of each location, and of the mean."""
        terms = []
        if spatial:
            terms.append(distance_term(self.grid(features), wanted.grid, spatial))
        if pooled:
            terms.append(distance_term(self.pooled(features.mean(dim=1)), wanted.pooled, pooled))
        return terms
