"""Distillation: the student's features learn to say what a frozen teacher's say of the same photo.

Distances are mean squared errors of channel-standardised features, through a linear map from the student's width to
the teacher's. Of the whole photo (the source paper's loss), of each location, or both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgecap.architectures.network import CaptionNetwork
from edgecap.metrics.split import EVALUATION_BATCH
from edgecap.training.config import Distillation, TrainConfig
from edgecap.training.sources.batches import Batch, EpochOrder, TeacherTensors, captions_of
from edgecap.training.sources.source import Photos, TrainingData
from edgecap.training.stages.losses import Term
from edgecap.training.stages.stage import TrainingStage, Validation
from edgecap.training.teachers import TeacherFeatures
from edgecap.training.teachers.captioner_teacher import CaptionerTeacher
from edgecap.training.teachers.task_teacher import TaskTeacher
from edgecap.training.teachers.teacher_cache import TeacherCache
from edgecap.training.teachers.teacher_head import TeacherHead


def _tensors(features: TeacherFeatures) -> TeacherTensors:
    return TeacherTensors(torch.from_numpy(features.grid), torch.from_numpy(features.pooled))


class TaughtPhotos(Photos):
    """Captioned photos with a teacher's features of the same views."""

    def __init__(
        self,
        config: TrainConfig,
        model: CaptionNetwork,
        data: TrainingData,
        teacher: TeacherCache,
        task_teacher: TaskTeacher | None = None,
    ) -> None:
        super().__init__(config, model, data, task_teacher)
        self._teacher = teacher

    def prepare(self, cache: Path) -> None:
        self._teacher.prepare(cache)

    def batches(self, order: EpochOrder) -> Iterator[Batch]:
        data, config = self._data, self._config
        for indices in order:
            images, features = self._teacher.views_of(
                indices, order.rng(int(indices[0])), data.preprocess, flip=config.flip
            )
            captions = captions_of(data.learnt, indices, data.vocabulary, config)
            yield Batch(indices, torch.from_numpy(images), captions, _tensors(features))


class DistillationStage(TrainingStage):
    """The encoder learns from the teacher alone, on photos with and without captions."""

    options: Distillation

    def __init__(
        self,
        options: Distillation,
        config: TrainConfig,
        model: CaptionNetwork,
        data: TrainingData,
        teacher: TeacherCache,
        head: TeacherHead,
    ) -> None:
        super().__init__("distillation", options, config, model, data)
        self._teacher, self._head = teacher, head

    def prepare(self, cache: Path) -> None:
        self._teacher.prepare(cache)

    def parameter_groups(self) -> list[dict[str, Any]]:
        parameters = [*self._head.parameters(), *self.model.encoder.projection.parameters()]
        return [{"params": parameters, "peak": self.options.learning_rate}, self._backbone_group()]

    def order(self, epoch: int, first: int = 0) -> EpochOrder:
        size, count = self.options.batch_size, len(self._teacher.paths)
        return EpochOrder(self.config.seed, self.number, epoch, size, count, first, self.share)

    def batches(self, order: EpochOrder) -> Iterator[Batch]:
        nothing = torch.empty(0, 0, 0, dtype=torch.int64)
        for indices in order:
            images, features = self._teacher.views_of(
                indices, order.rng(int(indices[0])), self.data.preprocess, flip=self.config.flip
            )
            yield Batch(indices, torch.from_numpy(images), nothing, _tensors(features))

    def loss(self, batch: Batch, done: float) -> list[Term]:
        assert batch.teacher is not None  # batches() gives all of them one
        features = self.model.encoder(batch.inputs.to(memory_format=torch.channels_last))  # (N, L, D)
        return self._head.terms(features, batch.teacher, spatial=1.0, pooled=self.options.pooled)

    def finish(self) -> str | None:
        """A student of a captioner's encoder takes over its decoder too, where both are of one shape.

        Its features become the teacher's, so the decoder finds what it knows.
        """
        teacher, projection = self._teacher.teacher, self.model.encoder.projection
        if (
            not isinstance(teacher, CaptionerTeacher)
            or not isinstance(projection, nn.Sequential)
            or not len(projection)
        ):
            return None
        ours, theirs = self.model.decoder.state_dict(), teacher.decoder.state_dict()
        shapes = [{name: tensor.shape for name, tensor in weights.items()} for weights in (ours, theirs)]
        if shapes[0] != shapes[1] or teacher.vocabulary.tokens != self.data.vocabulary.tokens:
            return None
        last = projection[-1]
        assert isinstance(last, nn.Linear)
        self._head.absorb(last, self._teacher.standardisation)
        self.model.decoder.load_state_dict(theirs)
        return "the features are the teacher's, and so is the decoder"

    @torch.inference_mode()
    def validate(self) -> Validation:
        """The mean squared error of each location of the val photos, where 1 is as good as the channels' means."""
        self.model.eval()
        total = count = 0.0
        device = next(self.model.parameters()).device
        for start in range(0, len(self._teacher.val_paths), EVALUATION_BATCH):
            images, wanted = self._teacher.val(slice(start, start + EVALUATION_BATCH), self.data.preprocess)
            features = self.model.encoder(torch.from_numpy(images).to(device))  # (N, L, D)
            grid = torch.from_numpy(wanted.grid).to(device)
            (term,) = self._head.terms(features, TeacherTensors(grid, grid), spatial=1.0, pooled=0.0)
            total, count = total + term.total.item(), count + term.over
        loss = total / count
        return Validation(f"val distance from the teacher {loss:.4f}", loss=loss)
