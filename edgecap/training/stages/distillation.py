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
from edgecap.training.sources.batches import Batch, EpochOrder, TeacherTensors
from edgecap.training.sources.source import Source
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.sources.views import MirroredPhotos
from edgecap.training.stages.losses import Term
from edgecap.training.stages.stage import TrainingStage, Validation
from edgecap.training.teachers.captioner_teacher import CaptionerTeacher
from edgecap.training.teachers.teacher_cache import TeacherCache
from edgecap.training.teachers.teacher_head import TeacherHead


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
        views = MirroredPhotos(config, model, data, teacher.views, teacher.paths)
        self._source = Source(data, views, None, teacher)

    def prepare(self, cache: Path) -> None:
        self._source.prepare(cache)

    def parameter_groups(self) -> list[dict[str, Any]]:
        parameters = [*self._head.parameters(), *self.model.encoder.projection.parameters()]
        return [{"params": parameters, "peak": self.options.learning_rate}, self._backbone_group()]

    def order(self, epoch: int, first: int = 0) -> EpochOrder:
        size, count = self.options.batch_size, len(self._teacher.paths)
        return EpochOrder(
            self.config.seed, self.number, epoch, size, count, first, self.share, whole=self.whole_batches
        )

    def batches(self, order: EpochOrder) -> Iterator[Batch]:
        return self._source.batches(order)

    def loss(self, batch: Batch, done: float) -> list[Term]:
        assert batch.teacher is not None  # batches() gives all of them one
        features = self._source.views.features(batch.inputs)  # (N, L, D)
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
            features = self.model.encoder(images.to(device))  # (N, L, D)
            grid = torch.from_numpy(wanted.grid).to(device)
            (term,) = self._head.terms(features, TeacherTensors(grid, grid), spatial=1.0, pooled=0.0)
            total, count = total + term.total.item(), count + float(term.over)
        loss = total / count
        return Validation(f"val distance from the teacher {loss:.4f}", loss=loss)
