"""Where a stage's photos come from: augmented as they are needed, or as cached grids of a frozen backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from edgecap.architectures.network import CaptionNetwork
from edgecap.architectures.torch_engine import TorchEngine
from edgecap.data.karpathy import CaptionedPhoto
from edgecap.metrics.split import EVALUATION_BATCH, encoded_photos
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.engines.engine import Encoded
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.training.config import TrainConfig
from edgecap.training.progress import progress
from edgecap.training.sources.batches import Batch, EpochOrder, grid_batches, image_batches, view_batches
from edgecap.training.sources.feature_cache import FeatureCache, Features
from edgecap.training.sources.grids import JoinedRows, grids, joined_grids
from edgecap.training.teachers.task_teacher import TaskTeacher


@dataclass(frozen=True)
class TrainingData:
    """What every stage learns from and is judged on."""

    train: tuple[CaptionedPhoto, ...]
    val: tuple[CaptionedPhoto, ...]
    vocabulary: Vocabulary
    preprocess: PreprocessConfig
    captioned_by_teachers: tuple[CaptionedPhoto, ...] = ()  # more to learn from, but not to be rewarded by

    @property
    def groups(self) -> list[list[Path]]:
        """The same photos, those captioned by people and those by teachers: not every run has both."""
        return [[photo.path for photo in group] for group in (self.train, self.captioned_by_teachers)]

    @property
    def learnt(self) -> tuple[CaptionedPhoto, ...]:
        """All photos with captions, those of people first."""
        return (*self.train, *self.captioned_by_teachers)


class Source(Protocol):
    """Captioned train photos in batches, and val photos encoded."""

    def prepare(self, cache: Path) -> None:
        """Work before the first batch; ``cache`` is the folder for what outlives the process."""

    def batches(self, order: EpochOrder) -> Iterator[Batch]:
        """The batches of an epoch."""

    def features(self, inputs: Tensor) -> Tensor:
        """Features (N, L, D) of a batch's inputs, with gradients for what learns."""

    def task_features(self, batch: Batch) -> list[Tensor]:
        """What the task teachers see of a batch, by teacher (N, L, D)."""

    def encoded_val(self, backend: TorchEngine) -> Iterator[tuple[Sequence[CaptionedPhoto], Encoded]]:
        """The val photos in batches, encoded by the model as it stands."""


class _Captioned:
    """Captioned photos for a model, of which task teachers may know some fixed views."""

    def __init__(
        self, config: TrainConfig, model: CaptionNetwork, data: TrainingData, task_teacher: TaskTeacher | None = None
    ) -> None:
        self._config, self._model, self._data, self._task_teacher = config, model, data, task_teacher

    def task_features(self, batch: Batch) -> list[Tensor]:
        assert self._task_teacher is not None and batch.views is not None
        return self._task_teacher.cached(batch.indices, batch.views)


class CachedGrids(_Captioned):
    """The backbone is frozen, and its grids of some augmented views of each photo are computed once."""

    _train_views: list[JoinedRows]
    _val_grids: Features

    def prepare(self, cache: Path) -> None:
        data, config, encoder = self._data, self._config, self._model.encoder
        with progress("caching features", len(data.learnt) * config.views + len(data.val)) as bar:
            features = FeatureCache(cache, bar.update)
            self._train_views = [
                joined_grids(features, encoder, data.groups, view, data.preprocess, config)
                for view in range(config.views)
            ]
            self._val_grids = grids(features, encoder, [photo.path for photo in data.val], 0, data.preprocess, config)
        if self._task_teacher is not None:
            self._task_teacher.prepare(cache, data.groups, config.views)

    def batches(self, order: EpochOrder) -> Iterator[Batch]:
        return grid_batches(self._data.learnt, self._data.vocabulary, self._train_views, self._config, order)

    def features(self, inputs: Tensor) -> Tensor:
        return self._model.encoder.projection(inputs)  # type: ignore[no-any-return]

    def encoded_val(self, backend: TorchEngine) -> Iterator[tuple[Sequence[CaptionedPhoto], Encoded]]:
        for start in range(0, len(self._data.val), EVALUATION_BATCH):
            grid = torch.from_numpy(self._val_grids[start : start + EVALUATION_BATCH].astype(np.float32))  # (N, L, C)
            yield self._data.val[start : start + EVALUATION_BATCH], backend.encode_grid(grid)


class _LearntPhotos(_Captioned):
    """The backbone learns, so photos and not grids are what a step takes."""

    def features(self, inputs: Tensor) -> Tensor:
        return self._model.encoder(inputs.to(memory_format=torch.channels_last))  # type: ignore[no-any-return]

    def encoded_val(self, backend: TorchEngine) -> Iterator[tuple[Sequence[CaptionedPhoto], Encoded]]:
        return encoded_photos(backend, self._data.val, self._data.preprocess)


class Photos(_LearntPhotos):
    """Photos that are augmented anew in every epoch. Task teachers encode them as well."""

    def prepare(self, cache: Path) -> None:
        """Photos are augmented as they come, so there is nothing to cache."""

    def batches(self, order: EpochOrder) -> Iterator[Batch]:
        data = self._data
        return image_batches(data.learnt, data.vocabulary, data.preprocess, self._config, order)

    def task_features(self, batch: Batch) -> list[Tensor]:
        assert self._task_teacher is not None
        return self._task_teacher.live(batch.inputs, self._data.preprocess)


class PhotosInViews(_LearntPhotos):
    """Fixed views of the photos, of which the task teachers' features are cached."""

    def prepare(self, cache: Path) -> None:
        assert self._task_teacher is not None
        self._task_teacher.prepare(cache, self._data.groups, self._config.task_views)

    def batches(self, order: EpochOrder) -> Iterator[Batch]:
        data = self._data
        return view_batches(data.learnt, data.vocabulary, data.preprocess, self._config, order)
