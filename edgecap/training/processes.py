"""One run in several processes, as ``torchrun`` starts them: each learns from its share of every batch.

Losses are divided by the words of the whole batch and gradients are summed, so that the steps are those of one
process. The processes find each other through ``accelerate``; without torchrun nothing of it is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from edgecap.errors import MissingExtraError

_PATIENCE = timedelta(hours=12)  # the others wait while the first one caches features and validates


def rank() -> int:
    """The number of this process, 0 where there is but one."""
    return int(os.environ.get("RANK", 0))


class Processes:
    """This process among ``count``, as number ``rank``; the first one writes, and speaks, for all."""

    def __init__(self) -> None:
        self.rank, self.count = rank(), int(os.environ.get("WORLD_SIZE", 1))
        self._state: Any = None
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.count > 1:
            try:
                from accelerate import PartialState
            except ImportError:
                raise MissingExtraError("accelerate", "train") from None
            self._state = PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
            self.device = self._state.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, of a tensor on this one's device."""
        if self.count == 1:
            return values
        from accelerate.utils import reduce

        summed: Tensor = reduce(values, "sum")
        return summed

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Give all processes the sum of their gradients, in one exchange."""
        if self.count == 1:
            return
        learning = list(parameters)
        flat = torch.cat([_gradient(parameter).flatten() for parameter in learning])
        parts = torch.split(self.sum(flat), [parameter.numel() for parameter in learning])
        for parameter, part in zip(learning, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    @contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """The others do what is within when the first one has done it, and finds its files."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def wait(self) -> None:
        """Until all processes are here."""
        if self._state is not None:
            self._state.wait_for_everyone()


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
