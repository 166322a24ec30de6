"""Captioners as teachers: their word distributions, and their captions of photos that have none.

Word by word it is knowledge distillation as in Hinton et al. 2015 (arXiv:1503.02531), with captions of the photos'
own; whole captions are sequence-level distillation as in Kim and Rush 2016 (arXiv:1606.07947).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecap.architectures.backbones.weights import network_key
from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.architectures.defaults import preprocess_config
from edgecap.architectures.network import CaptionNetwork
from edgecap.errors import CheckpointError
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.training.config import TrainConfig
from edgecap.training.progress import progress
from edgecap.training.sources.feature_cache import FeatureCache
from edgecap.training.sources.fixed_views import FixedViews
from edgecap.training.sources.grids import JoinedRows, joined_grids


def task_teacher(config: TrainConfig, vocabulary: Vocabulary, device: torch.device) -> TaskTeacher | None:
    """The captioners that ``config`` names, if any."""
    names = config.task_teacher_names
    return TaskTeacher([Path(name) for name in names], vocabulary, config, device) if names else None


class TaskTeacher:
    """Frozen captioners that speak with one voice: the mean of their probabilities.

    Raises ``CheckpointError`` for one that does not fit.
    """

    _grids: dict[str, list[JoinedRows]]  # by backbone and view: (photos, L, C)

    def __init__(
        self,
        paths: Sequence[Path],
        vocabulary: Vocabulary,
        config: TrainConfig,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        self._config, self._device = config, device
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
        # Members that were trained on one frozen backbone share its grids.
        self._backbones = [network_key(model.encoder.backbone) for model in self.models]
        self._encoders = {key: model.encoder for key, model in zip(self._backbones, self.models, strict=True)}

    def prepare(self, cache: Path, groups: Sequence[Sequence[Path]], views: int) -> None:
        """Compute the grids of some views of photos that are not cached yet, once for all members of one backbone."""
        with progress("caching task teachers", sum(map(len, groups)) * views * len(self._encoders)) as bar:
            arrays = FeatureCache(cache, bar.update)
            how = (FixedViews.of(self._config, views), self.preprocess, self._config.precision)
            self._grids = {key: joined_grids(arrays, encoder, groups, *how) for key, encoder in self._encoders.items()}

    @torch.no_grad()
    def cached(self, indices: NDArray[np.int64], views: NDArray[np.int64]) -> list[Tensor]:
        """Features of a view of each of N prepared photos, by member (N, L, D)."""
        rows = list(zip(indices.tolist(), views.tolist(), strict=True))
        return self._projected(
            {
                key: torch.from_numpy(np.stack([of[view][index] for index, view in rows])).float()  # (N, L, C)
                for key, of in self._grids.items()
            }
        )

    @torch.no_grad()
    def live(self, images: Tensor, preprocess: PreprocessConfig) -> list[Tensor]:
        """Features of photos (N, 3, S, S) that were prepared for a student, by member (N, L, D)."""
        ours, theirs = self.preprocess, preprocess
        mean, std, their_mean, their_std = (
            torch.tensor(values, device=images.device)[:, None, None]
            for values in (ours.mean, ours.std, theirs.mean, theirs.std)
        )
        own = (images * their_std + their_mean - mean) / std
        own = own.to(self._device, memory_format=torch.channels_last)
        with self._precision():
            return self._projected({key: encoder.grid(own) for key, encoder in self._encoders.items()})

    def _projected(self, grids: Mapping[str, Tensor]) -> list[Tensor]:
        """Features by member of the grids (N, L, C) by backbone."""
        with self._precision():
            return [
                model.encoder.projection(grids[key].to(self._device)).float()
                for key, model in zip(self._backbones, self.models, strict=True)
            ]

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._config.precision == "bf16")

    @torch.no_grad()
    def distributions(self, features: Sequence[Tensor], captions: Tensor) -> Iterator[Tensor]:
        """Of each next word of captions (N, K, T + 1), the mean probabilities (N, live, V)."""
        forced = [
            model.forced_steps(known.to(captions.device), captions)
            for model, known in zip(self.models, features, strict=True)
        ]
        for steps in zip(*forced, strict=True):
            yield torch.stack([step.log_probs.exp() for step in steps]).mean(dim=0)
