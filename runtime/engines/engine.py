"""What an engine must supply: the two graphs of a bundle, as calls on numpy arrays.

The decode loop (``search.decoding``) is written once against this protocol; ONNX Runtime, LiteRT and,
for evaluation while training, torch each implement it.

Axes: N photos, K live hypotheses of each photo, L = 49 image locations (7 x 7, row by row), D feature channels,
A attention channels, H hidden units, V words of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """What the encoder graph makes of N photos, once per photo."""

    features: FloatArray  # (N, L, D)
    keys: FloatArray  # (N, L, A)
    h0: FloatArray  # (N, H)
    c0: FloatArray  # (N, H)


@dataclass(frozen=True)
class Step:
    """What one decoder step makes of K hypotheses of each of N photos."""

    log_probs: FloatArray  # (N, K, V)
    h: FloatArray  # (N, K, H)
    c: FloatArray  # (N, K, H)
    alpha: FloatArray  # (N, K, L), sums to 1 over L


class Backend(Protocol):
    """An engine with both graphs loaded."""

    @property
    def name(self) -> str:
        """Engine and version, such as ``onnxruntime 1.31.1``."""
        ...

    def encode(self, images: FloatArray) -> Encoded:
        """Encode preprocessed photos (N, 3, S, S), float32."""
        ...

    def step(self, token: IntArray, h: FloatArray, c: FloatArray, features: FloatArray, keys: FloatArray) -> Step:
        """Advance by one word: token (N, K) int64, h and c (N, K, H), features (N, L, D), keys (N, L, A)."""
        ...
