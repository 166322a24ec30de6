"""The two stages of plain training: the decoder on a frozen backbone's cached grids, then everything end to end.

A stage says which parameters learn, at which rates, and where its batches and its validation features come from.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgecap.data.karpathy import CaptionedPhoto
from edgecap.evaluation import EVALUATION_BATCH, encoded_photos
from edgecap.model.captioner import CaptionModel
from edgecap.model.torch_backend import TorchBackend
from edgecap.runtime.backend import Encoded
from edgecap.runtime.preprocess import PreprocessConfig
from edgecap.runtime.vocabulary import Vocabulary
from edgecap.training.batches import Batch, EpochOrder, grid_batches, image_batches
from edgecap.training.config import Stage, TrainConfig
from edgecap.training.feature_cache import GridCache, Grids
from edgecap.training.progress import progress


@dataclass(frozen=True)
class TrainingData:
    """What every stage learns from and is judged on."""

    train: tuple[CaptionedPhoto, ...]
    val: tuple[CaptionedPhoto, ...]
    vocabulary: Vocabulary
    preprocess: PreprocessConfig


class TrainingStage(ABC):
    """One stage on one model."""

    name: str

    def __init__(self, number: int, options: Stage, config: TrainConfig, model: CaptionModel, data: TrainingData):
        self.number, self.options, self.config = number, options, config
        self.model, self.data = model, data

    @abstractmethod
    def prepare(self, cache: Path) -> None:
        """Work before the first batch; ``cache`` is the folder for what outlives the process."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer, each with the ``peak`` of its learning rate."""

    @abstractmethod
    def batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """The batches of an epoch from number ``first`` on."""

    @abstractmethod
    def features(self, inputs: Tensor) -> Tensor:
        """Features (N, L, D) of a batch's inputs, with gradients for what learns."""

    @abstractmethod
    def encoded_val(self, backend: TorchBackend) -> Iterator[tuple[Sequence[CaptionedPhoto], Encoded]]:
        """The val photos in batches, encoded by the model as it stands."""

    def batches_per_epoch(self) -> int:
        return math.ceil(len(self.data.train) / self.config.batch_size)

    def rate_factor(self, step: int) -> float:
        """Share of the peak learning rate at a step of the stage: a linear rise, then half a cosine to zero."""
        total = self.options.epochs * self.batches_per_epoch()
        rise = max(1, round(self.options.warmup * total))
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))

    def _head_group(self) -> dict[str, Any]:
        parameters = [*self.model.decoder.parameters(), *self.model.encoder.projection.parameters()]
        return {"params": parameters, "peak": self.options.learning_rate}


class FrozenStage(TrainingStage):
    """The decoder and the projection learn; the backbone's grids are computed once."""

    name = "frozen"
    _train_views: list[Grids]
    _val_grids: Grids

    def prepare(self, cache: Path) -> None:
        data, views = self.data, self.config.views
        with progress("caching features", len(data.train) * views + len(data.val)) as bar:
            grids = GridCache(cache, self.model.encoder, data.preprocess, self.config, bar.update)
            self._train_views = grids.views(data.train, views)
            self._val_grids = grids.views(data.val, 1)[0]

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [self._head_group()]

    def batches(self, epoch: int, first: int) -> Iterator[Batch]:
        order = EpochOrder(self.config, self.number, epoch, first)
        return grid_batches(self.data.train, self.data.vocabulary, self._train_views, order)

    def features(self, inputs: Tensor) -> Tensor:
        return self.model.encoder.projection(inputs)  # type: ignore[no-any-return]

    def encoded_val(self, backend: TorchBackend) -> Iterator[tuple[Sequence[CaptionedPhoto], Encoded]]:
        for start in range(0, len(self.data.val), EVALUATION_BATCH):
            grid = torch.from_numpy(self._val_grids[start : start + EVALUATION_BATCH].astype(np.float32))  # (N, L, C)
            yield self.data.val[start : start + EVALUATION_BATCH], backend.encode_grid(grid)


class EndToEndStage(TrainingStage):
    """Everything learns, from augmented photos."""

    name = "end-to-end"

    def prepare(self, cache: Path) -> None:
        """Photos are augmented as they come, so there is nothing to cache."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        backbone = {
            "params": list(self.model.encoder.backbone.parameters()),
            "peak": self.options.backbone_learning_rate,
        }
        return [self._head_group(), backbone]

    def batches(self, epoch: int, first: int) -> Iterator[Batch]:
        order = EpochOrder(self.config, self.number, epoch, first)
        return image_batches(self.data.train, self.data.vocabulary, self.data.preprocess, order)

    def features(self, inputs: Tensor) -> Tensor:
        return self.model.encoder(inputs.to(memory_format=torch.channels_last))  # type: ignore[no-any-return]

    def encoded_val(self, backend: TorchBackend) -> Iterator[tuple[Sequence[CaptionedPhoto], Encoded]]:
        return encoded_photos(backend, self.data.val, self.data.preprocess)
