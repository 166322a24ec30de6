"""Several networks as one engine: they caption together, by the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from edgecap.architectures.network import CaptionNetwork
from edgecap.architectures.torch_engine import TorchEngine
from edgecap.runtime.engines.engine import Arrays, Encoded, FloatArray, IntArray, Step


class EnsembleEngine:
    """An ``Engine`` whose memory and state are those of the members side by side, under their number."""

    def __init__(self, networks: Sequence[CaptionNetwork], *, autocast: bool = False) -> None:
        self._members = [TorchEngine(network, autocast=autocast) for network in networks]

    @property
    def name(self) -> str:
        return f"{len(self._members)} models, torch {torch.__version__}"

    def encode(self, images: FloatArray) -> Encoded:
        found = [member.encode(images) for member in self._members]
        return Encoded(_joined([part.memory for part in found]), _joined([part.state for part in found]))

    def step(self, token: IntArray, state: Arrays, memory: Arrays) -> Step:
        steps = [member.step(token, _own(n, state), _own(n, memory)) for n, member in enumerate(self._members)]
        log_probs = np.stack([step.log_probs for step in steps])  # (M, N, K, V)
        mean = np.logaddexp.reduce(log_probs, axis=0) - np.float32(np.log(len(steps)))
        looked = [step.attention for step in steps if step.attention is not None]
        attention = np.mean(looked, axis=0) if len({part.shape for part in looked}) == 1 else None
        return Step(mean, _joined([step.state for step in steps]), attention)


def _joined(parts: Sequence[Arrays]) -> Arrays:
    return {f"{n}.{name}": value for n, part in enumerate(parts) for name, value in part.items()}


def _own(member: int, arrays: Arrays) -> Arrays:
    prefix = f"{member}."
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
