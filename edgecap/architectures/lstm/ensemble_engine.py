"""Several torch models as one ``runtime`` back end: they caption together, by the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.lstm.torch_engine import TorchBackend
from edgecap.runtime.engines.engine import Encoded, FloatArray, IntArray, Step


class EnsembleBackend:
    """Implements ``edgecap.runtime.engines.engine.Backend``: states and features of the members lie side by side."""

    def __init__(self, models: Sequence[CaptionModel], *, autocast: bool = False) -> None:
        self._members = [TorchBackend(model, autocast=autocast) for model in models]
        dims = [model.dims for model in models]
        self._hidden = np.cumsum([size.hidden_dim for size in dims])[:-1]
        self._features = np.cumsum([size.feature_dim for size in dims])[:-1]
        self._keys = np.cumsum([size.attention_dim for size in dims])[:-1]

    @property
    def name(self) -> str:
        return f"{len(self._members)} models, torch {torch.__version__}"

    def encode(self, images: FloatArray) -> Encoded:
        found = [member.encode(images) for member in self._members]
        names = ("features", "keys", "h0", "c0")
        return Encoded(*(np.concatenate([getattr(part, name) for part in found], axis=-1) for name in names))

    def step(self, token: IntArray, h: FloatArray, c: FloatArray, features: FloatArray, keys: FloatArray) -> Step:
        split = zip(
            np.split(h, self._hidden, axis=-1),
            np.split(c, self._hidden, axis=-1),
            np.split(features, self._features, axis=-1),
            np.split(keys, self._keys, axis=-1),
            strict=True,
        )
        steps = [member.step(token, *states) for member, states in zip(self._members, split, strict=True)]
        log_probs = np.stack([step.log_probs for step in steps])  # (M, N, K, V)
        mean = np.logaddexp.reduce(log_probs, axis=0) - np.float32(np.log(len(steps)))
        return Step(
            mean,
            np.concatenate([step.h for step in steps], axis=-1),
            np.concatenate([step.c for step in steps], axis=-1),
            np.mean([step.alpha for step in steps], axis=0),
        )
