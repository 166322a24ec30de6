"""Where a stage's photos come from: augmented as they are needed, or as cached grids of a frozen backbone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from edgecap.data.karpathy import CaptionedPhoto
from edgecap.evaluation import EVALUATION_BATCH, encoded_photos
from edgecap.model.backbone_weights import network_key
from edgecap.model.captioner import CaptionModel
from edgecap.model.torch_backend import TorchBackend
from edgecap.runtime.backend import Encoded, FloatArray
from edgecap.runtime.preprocess import PreprocessConfig
from edgecap.runtime.vocabulary import Vocabulary
from edgecap.training.batches import Batch, EpochOrder, grid_batches, image_batches
from edgecap.training.config import TrainConfig
from edgecap.training.feature_cache import FeatureCache, Features, feature_key
from edgecap.training.progress import progress
from edgecap.training.task_teacher import TaskTeacher
from edgecap.training.views import view_tensor


@dataclass(frozen=True)
class TrainingData:
    """What every stage learns from and is judged on."""

    train: tuple[CaptionedPhoto, ...]
    val: tuple[CaptionedPhoto, ...]
    vocabulary: Vocabulary
    preprocess: PreprocessConfig
    captioned_by_teachers: tuple[CaptionedPhoto, ...] = ()  # more to learn from, but not to be rewarded by

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

    def encoded_val(self, backend: TorchBackend) -> Iterator[tuple[Sequence[CaptionedPhoto], Encoded]]:
        """The val photos in batches, encoded by the model as it stands."""


class CachedGrids:
    """The backbone is frozen, and its grids of some augmented views of each photo are computed once."""

    _train_views: list[Features]
    _val_grids: Features

    def __init__(
        self, config: TrainConfig, model: CaptionModel, data: TrainingData, task_teacher: TaskTeacher | None = None
    ) -> None:
        self._config, self._model, self._data, self._task_teacher = config, model, data, task_teacher

    def prepare(self, cache: Path) -> None:
        data, views = self._data, self._config.views
        with progress("caching features", len(data.learnt) * views + len(data.val)) as bar:
            features = FeatureCache(cache, bar.update)
            self._train_views = [self._grids(features, data.learnt, view) for view in range(views)]
            self._val_grids = self._grids(features, data.val, 0)
        if self._task_teacher is not None:
            self._task_teacher.prepare(cache, [photo.path for photo in data.learnt], views)

    def _grids(self, cache: FeatureCache, photos: Sequence[CaptionedPhoto], view: int) -> Features:
        config, encoder = self._config, self._model.encoder.eval()
        files = [(photo.id, photo.path.stat().st_size) for photo in photos]
        recipe = [config.seed, asdict(config.augmentation), config.precision, config.activation]
        key = feature_key(network_key(encoder.backbone), recipe, self._data.preprocess.to_json(), files)
        device = next(encoder.parameters()).device
        paths = [photo.path for photo in photos]

        def compute(rows: range) -> FloatArray:
            images = view_tensor(paths, rows, view, self._data.preprocess, config)  # (N, 3, S, S)
            batch = torch.from_numpy(images).to(device, memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                return encoder.grid(batch).float().cpu().numpy()  # (N, L, C)

        return cache.features(f"{key}-view{view}", len(photos), compute)

    def batches(self, order: EpochOrder) -> Iterator[Batch]:
        return grid_batches(self._data.learnt, self._data.vocabulary, self._train_views, self._config, order)

    def features(self, inputs: Tensor) -> Tensor:
        return self._model.encoder.projection(inputs)  # type: ignore[no-any-return]

    def task_features(self, batch: Batch) -> list[Tensor]:
        assert self._task_teacher is not None and batch.views is not None
        return self._task_teacher.cached(batch.indices, batch.views)

    def encoded_val(self, backend: TorchBackend) -> Iterator[tuple[Sequence[CaptionedPhoto], Encoded]]:
        for start in range(0, len(self._data.val), EVALUATION_BATCH):
            grid = torch.from_numpy(self._val_grids[start : start + EVALUATION_BATCH].astype(np.float32))  # (N, L, C)
            yield self._data.val[start : start + EVALUATION_BATCH], backend.encode_grid(grid)


class Photos:
    """The backbone learns, from photos that are augmented anew in every epoch."""

    def __init__(
        self, config: TrainConfig, model: CaptionModel, data: TrainingData, task_teacher: TaskTeacher | None = None
    ) -> None:
        self._config, self._model, self._data, self._task_teacher = config, model, data, task_teacher

    def prepare(self, cache: Path) -> None:
        """Photos are augmented as they come, so there is nothing to cache."""

    def batches(self, order: EpochOrder) -> Iterator[Batch]:
        data = self._data
        return image_batches(data.learnt, data.vocabulary, data.preprocess, self._config, order)

    def features(self, inputs: Tensor) -> Tensor:
        return self._model.encoder(inputs.to(memory_format=torch.channels_last))  # type: ignore[no-any-return]

    def task_features(self, batch: Batch) -> list[Tensor]:
        assert self._task_teacher is not None
        return self._task_teacher.live(batch.inputs, self._data.preprocess)

    def encoded_val(self, backend: TorchBackend) -> Iterator[tuple[Sequence[CaptionedPhoto], Encoded]]:
        return encoded_photos(backend, self._data.val, self._data.preprocess)
