"""Captioners as teachers: their word distributions, and their captions of photos that have none.

Word by word it is knowledge distillation as in Hinton et al. 2015 (arXiv:1503.02531), with captions of the photos'
own; whole captions are sequence-level distillation as in Kim and Rush 2016 (arXiv:1606.07947).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecap.errors import CheckpointError
from edgecap.model.captioner import CaptionModel
from edgecap.model.checkpoint import load_checkpoint
from edgecap.model.preprocessing import preprocess_config
from edgecap.runtime.backend import FloatArray
from edgecap.runtime.preprocess import PreprocessConfig
from edgecap.runtime.vocabulary import Vocabulary
from edgecap.training.config import TrainConfig
from edgecap.training.feature_cache import FeatureCache, Features, feature_key
from edgecap.training.progress import progress
from edgecap.training.views import view_tensor


def task_teacher(config: TrainConfig, vocabulary: Vocabulary, device: torch.device) -> TaskTeacher | None:
    """The captioners that ``config`` names, if any."""
    names = [name.strip() for name in config.task_teachers.split(",") if name.strip()]
    return TaskTeacher([Path(name) for name in names], vocabulary, config, device) if names else None


class TaskTeacher:
    """Frozen captioners that speak with one voice: the mean of their probabilities.

    Raises ``CheckpointError`` for one that does not fit.
    """

    _cached: list[list[Features]]  # by member and view: (photos, L, D)

    def __init__(
        self,
        paths: Sequence[Path],
        vocabulary: Vocabulary,
        config: TrainConfig,
        device: torch.device = torch.device("cpu"),  # noqa: B008
    ) -> None:
        self._config = config
        self.models: list[CaptionModel] = []
        self._keys: list[str] = []
        preprocesses: list[PreprocessConfig] = []
        for path in paths:
            checkpoint = load_checkpoint(path)
            if checkpoint.vocabulary.tokens != vocabulary.tokens:
                raise CheckpointError(path, "cannot teach words: its vocabulary is another")
            model = checkpoint.model().to(device)
            self.models.append(model.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
            self._keys.append(hashlib.sha256(path.read_bytes()).hexdigest())
            preprocesses.append(preprocess_config(checkpoint.dims))
            if preprocesses[-1] != preprocesses[0]:
                raise CheckpointError(path, f"prepares photos otherwise than {paths[0]}")
        self.preprocess = preprocesses[0]
        self.key = "+".join(self._keys)

    def prepare(self, cache: Path, photos: Sequence[Path], views: int) -> None:
        """Compute the features of some views of photos that are not cached yet: those of a frozen stage."""
        with progress("caching task teachers", len(photos) * views * len(self.models)) as bar:
            arrays = FeatureCache(cache, bar.update)
            self._cached = [[self._features(arrays, n, photos, view) for view in range(views)] for n in self._members]

    @property
    def _members(self) -> range:
        return range(len(self.models))

    def _features(self, arrays: FeatureCache, member: int, photos: Sequence[Path], view: int) -> Features:
        config = self._config
        files = [(path.name, path.stat().st_size) for path in photos]
        recipe = [config.seed, asdict(config.augmentation), config.precision, self.preprocess.to_json(), files]
        key = feature_key(self._keys[member], recipe)

        def compute(rows: range) -> FloatArray:
            images = view_tensor(photos, rows, view, self.preprocess, config)  # (N, 3, S, S)
            return self._encoded(member, torch.from_numpy(images)).cpu().numpy()

        return arrays.features(f"{key}-view{view}", len(photos), compute)

    @torch.no_grad()
    def _encoded(self, member: int, images: Tensor) -> Tensor:
        model = self.models[member]
        device = next(model.parameters()).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._config.precision == "bf16"):
            features = model.encoder(images.to(device, memory_format=torch.channels_last))
        return features.float()  # type: ignore[no-any-return]  # (N, L, D)

    def cached(self, indices: NDArray[np.int64], views: NDArray[np.int64]) -> list[Tensor]:
        """Features of a view of each of N prepared photos, by member (N, L, D)."""
        rows = list(zip(indices, views, strict=True))
        return [torch.from_numpy(np.stack([of[view][index] for index, view in rows])).float() for of in self._cached]

    def live(self, images: Tensor, preprocess: PreprocessConfig) -> list[Tensor]:
        """Features of photos (N, 3, S, S) that were prepared for a student, by member (N, L, D)."""
        ours, theirs = self.preprocess, preprocess
        mean, std, their_mean, their_std = (
            torch.tensor(values, device=images.device)[:, None, None]
            for values in (ours.mean, ours.std, theirs.mean, theirs.std)
        )
        own = (images * their_std + their_mean - mean) / std
        return [self._encoded(member, own) for member in self._members]

    @torch.no_grad()
    def distributions(self, features: Sequence[Tensor], captions: Tensor) -> Iterator[Tensor]:
        """Of each next word of captions (N, K, T + 1), the mean probabilities (N, live, V)."""
        forced = [
            model.forced_steps(known.to(captions.device), captions)
            for model, known in zip(self.models, features, strict=True)
        ]
        for steps in zip(*forced, strict=True):
            yield torch.stack([step.log_probs.exp() for step in steps]).mean(dim=0)
