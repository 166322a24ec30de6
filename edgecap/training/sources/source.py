"""Where a stage's batches come from: views of photos, and with each what is known of the photo, its targets.

Any views go with any targets. A teacher's features are cached, so they want fixed views; task teachers' are where the
views are fixed, and else made as the photos come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edgecap.training.sources.batches import Batch, EpochOrder
from edgecap.training.sources.captions import Captions
from edgecap.training.sources.fixed_views import FixedViews
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.sources.views import Views
from edgecap.training.teachers.task_teacher import TaskTeacher
from edgecap.training.teachers.teacher_cache import TeacherCache


@dataclass(frozen=True)
class Source:
    """Train photos in batches, of which what is not ``None`` is known."""

    data: TrainingData
    views: Views
    captions: Captions | None
    teacher: TeacherCache | None = None
    task_teacher: TaskTeacher | None = None

    def prepare(self, cache: Path) -> None:
        """Work before the first batch; ``cache`` is the folder for what outlives the process."""
        self.views.prepare(cache)
        if self.teacher is not None:
            self.teacher.prepare(cache)
        if self.task_teacher is not None and self.views.fixed:
            self.task_teacher.prepare(
                cache, self.data.groups, FixedViews.of(self.task_teacher.config, self.views.fixed, self.data.photos)
            )

    def batches(self, order: EpochOrder) -> Iterator[Batch]:
        """The batches of an epoch. Raises ``ImageError`` naming a photo that cannot be read."""
        nothing = torch.empty(0, 0, 0, dtype=torch.int64)
        for indices, inputs, views, mirrored in self.views.shown(order):
            captions = nothing if self.captions is None else self.captions.of(indices, whole=order.whole)
            teacher = None
            if self.teacher is not None:
                assert views is not None  # a plan gives a teacher fixed views, mirrored or not
                teacher = self.teacher.of(indices, views, mirrored)
            known: Sequence[Tensor] = ()
            if self.task_teacher is not None and self.views.fixed:
                assert views is not None
                known = self.task_teacher.cached(indices, views)
            yield Batch(indices, inputs, captions, teacher, tuple(known))

    def task_features(self, batch: Batch) -> list[Tensor]:
        """What the task teachers see of a batch, by teacher (N, L, D)."""
        if self.task_teacher is None:
            return []
        if self.views.fixed:
            return [known.float() for known in batch.known]
        return self.task_teacher.live(batch.inputs, self.data.preprocess)
