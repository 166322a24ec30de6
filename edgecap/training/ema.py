"""Averaged weights: an exponential moving average over the steps, as Polyak averaging goes in practice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

WEIGHTS, STEPS = "weights.", "steps"  # what a resumed run finds them by


class AveragedWeights:
    """The average of a model's weights and BatchNorm statistics; with decay 0 it is the model itself."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self._average: AveragedModel | None = None  # none before the first step

    def update(self) -> None:
        """Take in the weights after a step."""
        if self._decay:
            if self._average is None:
                self._average = self._begun()
            self._average.update_parameters(self._model)

    def _begun(self) -> AveragedModel:
        return AveragedModel(self._model, multi_avg_fn=self._take_in, use_buffers=True)

    def _take_in(self, averages: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor | int) -> None:
        """Move tensors of one type, after ``steps``. The first steps count less long: no average of a start remains."""
        if averages[0].is_floating_point():
            decay = min(self._decay, (int(steps) + 1) / (int(steps) + 10))
            get_ema_multi_avg_fn(decay)(averages, current, steps)  # type: ignore[no-untyped-call]
        else:  # BatchNorm's count of batches
            for average, value in zip(averages, current, strict=True):
                average.copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model has the averaged weights."""
        if self._average is None:
            yield
            return
        current = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        self._model.load_state_dict(self._average.module.state_dict())
        try:
            yield
        finally:
            self._model.load_state_dict(current)

    def adopt(self) -> None:
        """Give the model its averaged weights for good, and start anew: the next stage goes on from them."""
        if self._average is not None:
            self._model.load_state_dict(self._average.module.state_dict())
        self._average = None

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        if self._average is None:
            return {}
        weights = self._average.module.state_dict()
        return {STEPS: self._average.n_averaged, **{WEIGHTS + name: tensor for name, tensor in weights.items()}}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of :meth:`state`. Raises ``RuntimeError`` for weights of another model."""
        if state:
            self._average = self._begun()
            self._average.n_averaged.copy_(state[STEPS])
            stored = {name.removeprefix(WEIGHTS): tensor for name, tensor in state.items() if name != STEPS}
            self._average.module.load_state_dict(stored)
