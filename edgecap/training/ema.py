"""Averaged weights: an exponential moving average over the steps, as Polyak averaging goes in practice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """The average of a model's weights and BatchNorm statistics; with decay 0 it is the model itself."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self._steps = 0
        self._average: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step. The first ones count less long: no average of a start remains."""
        if not self._decay:
            return
        current = self._model.state_dict()
        if not self._average:
            self._average = {name: tensor.clone() for name, tensor in current.items()}
        self._steps += 1
        decay = min(self._decay, self._steps / (self._steps + 9))
        for name, average in self._average.items():
            if average.is_floating_point():
                average.lerp_(current[name], 1 - decay)
            else:
                average.copy_(current[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model has the averaged weights."""
        if not self._average:
            yield
            return
        current = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        self._model.load_state_dict(self._average)
        try:
            yield
        finally:
            self._model.load_state_dict(current)

    def adopt(self) -> None:
        """Give the model its averaged weights for good, and start anew: the next stage goes on from them."""
        if self._average:
            self._model.load_state_dict(self._average)
        self._average, self._steps = {}, 0

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        if not self._average:
            return {}
        return {"steps": torch.tensor(self._steps), **{f"weights.{name}": t for name, t in self._average.items()}}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of :meth:`state`. Raises ``ValueError`` for weights of another model."""
        if state:
            self._steps = int(state["steps"])
            now = self._model.state_dict()
            stored = {name.removeprefix("weights."): tensor for name, tensor in state.items() if name != "steps"}
            if {name: t.shape for name, t in stored.items()} != {name: t.shape for name, t in now.items()}:
                raise ValueError("the averaged weights are not of this model")
            self._average = {name: tensor.to(now[name].device, copy=True) for name, tensor in stored.items()}
