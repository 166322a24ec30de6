"""What a captioner must supply to be searched, and a labeller to be asked: calls on arrays, whatever computes them.

The decode loop (``search.decoding``) is written once against this protocol. ONNX Runtime, LiteRT and, for evaluation
while training, torch each implement it.

Axes: N photos, K live hypotheses of each photo, L locations of the photo, V words of the vocabulary. What a memory and
a state hold is the architecture's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Encoded:
    """What the encoder makes of N photos, once per photo. ``len()`` is N."""

    memory: Arrays  # (N, ...) each: what every step reads
    state: Arrays  # (N, ...) each: the first state

    def __len__(self) -> int:
        return len(next(iter(self.memory.values())))


@dataclass(frozen=True)
class Step:
    """What one decoder step makes of K hypotheses of each of N photos."""

    log_probs: FloatArray  # (N, K, V)
    state: Arrays  # (N, K, ...) each, of the same names as before
    attention: FloatArray | None = None  # (N, K, L), sums to 1 over L; None of architectures that have none


class Loaded(Protocol):
    """The graphs of a set in their library."""

    @property
    def name(self) -> str:
        """Library and version, such as ``onnxruntime 1.31.1``."""
        ...


class Engine(Loaded, Protocol):
    """A captioner's graphs, loaded."""

    def encode(self, images: FloatArray) -> Encoded:
        """Encode preprocessed photos (N, 3, S, S), float32."""
        ...

    def step(self, token: IntArray, state: Arrays, memory: Arrays) -> Step:
        """Advance by one word: token (N, K) int64, each state (N, K, ...), each memory (N, ...)."""
        ...


class Embedder(Loaded, Protocol):
    """A labeller's graph, loaded."""

    def embed(self, images: FloatArray) -> FloatArray:
        """Preprocessed photos (N, 3, S, S), float32, as vectors (N, E), float32, of any length."""
        ...
