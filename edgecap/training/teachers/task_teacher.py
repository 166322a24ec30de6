"""Captioners as teachers: their word distributions, and their captions of photos that have none.

Word by word it is knowledge distillation as in Hinton et al. 2015 (arXiv:1503.02531), with captions of the photos'
own; whole captions are sequence-level distillation as in Kim and Rush 2016 (arXiv:1606.07947).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.architectures.defaults import preprocess_config
from edgecap.architectures.network import CaptionNetwork
from edgecap.errors import CheckpointError
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.training.config import TrainConfig
from edgecap.training.report.progress import progress
from edgecap.training.sources.feature_cache import FeatureCache
from edgecap.training.sources.fixed_views import FixedViews
from edgecap.training.sources.grids import Frozen, JoinedRows, all_of, joined_rows
from edgecap.training.sources.training_data import TrainingData


def task_teacher(config: TrainConfig, vocabulary: Vocabulary, device: torch.device) -> TaskTeacher | None:
    """The captioners that ``config`` names, if any."""
    names = config.task_teacher_names
    return TaskTeacher([Path(name) for name in names], vocabulary, config, device) if names else None


class TaskTeacher:
    """Frozen captioners that speak with one voice: the mean of their probabilities.

    Raises ``CheckpointError`` for one that does not fit.
    """

    _features: list[list[JoinedRows]]  # by member and view: (photos, L, D)

    def __init__(
        self,
        paths: Sequence[Path],
        vocabulary: Vocabulary,
        config: TrainConfig,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        self.config, self._device = config, device
        self.models: list[CaptionNetwork] = []
        keys: list[str] = []
        preprocesses: list[PreprocessConfig] = []
        for path in paths:
            checkpoint = load_checkpoint(path)
            if checkpoint.vocabulary.tokens != vocabulary.tokens:
                raise CheckpointError(path, "cannot teach words: its vocabulary is another")
            model = checkpoint.model().to(device)
            self.models.append(model.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
            keys.append(hashlib.sha256(path.read_bytes()).hexdigest())
            preprocesses.append(preprocess_config(checkpoint.dims))
            if preprocesses[-1] != preprocesses[0]:
                raise CheckpointError(path, f"prepares photos otherwise than {paths[0]}")
        self.preprocess = preprocesses[0]
        self.key = "+".join(keys)

    def prepare(self, folder: Path, groups: Sequence[Sequence[Path]], views: FixedViews) -> None:
        """Compute the features of some views of photos that are not cached yet."""
        with progress("caching task teachers", sum(map(len, groups)) * views.count * len(self.models)) as bar:
            arrays = FeatureCache(folder, bar.update)
            how = (groups, views, self.preprocess, self.config.precision)
            self._features = [joined_rows(arrays, all_of(model.encoder), *how) for model in self.models]

    def means(self, folder: Path, data: TrainingData) -> FloatArray:
        """The first one's features of the photos of train as they are, their mean over the locations: (n, D)."""
        encoder = self.models[0].encoder
        frozen = Frozen(encoder.eval(), lambda images: encoder(images).mean(dim=1, keepdim=True), "means")
        with progress("caching what photos look like", len(data.train)) as bar:
            arrays, groups = FeatureCache(folder, bar.update), data.groups[:-1]  # without those that teachers captioned
            views = FixedViews.of(self.config, 1, data.photos)
            (rows,) = joined_rows(arrays, frozen, groups, views, self.preprocess, self.config.precision)
        return np.concatenate([rows[index] for index in range(len(data.train))]).astype(np.float32)

    def cached(self, indices: NDArray[np.int64], views: NDArray[np.int64]) -> list[Tensor]:
        """Features of a view of each of N prepared photos, by member (N, L, D) float16."""
        rows = list(zip(indices.tolist(), views.tolist(), strict=True))
        return [torch.from_numpy(np.stack([of[view][index] for index, view in rows])) for of in self._features]

    @torch.no_grad()
    def live(self, images: Tensor, preprocess: PreprocessConfig) -> list[Tensor]:
        """Features of photos (N, 3, S, S) that were prepared for a student, by member (N, L, D)."""
        mean, std = _channels(self.preprocess, images.device)
        their_mean, their_std = _channels(preprocess, images.device)
        own = (images * their_std + their_mean - mean) / std
        own = own.to(self._device, memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            return [model.encoder(own).float() for model in self.models]

    @torch.no_grad()
    def distributions(self, features: Sequence[Tensor], captions: Tensor) -> Tensor:
        """The mean probabilities (M, V) of the words of captions, as of ``CaptionNetwork.forced_words``."""
        forced = [
            model.forced_words(known, captions).log_probs.exp()
            for model, known in zip(self.models, features, strict=True)
        ]
        return torch.stack(forced).mean(dim=0)


@cache
def _channels(preprocess: PreprocessConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation (3, 1, 1) each, put on a device once: in a captured pass nothing can be."""
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (preprocess.mean, preprocess.std))
    return mean, std
