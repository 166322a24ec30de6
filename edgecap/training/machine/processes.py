"""One run in several processes, as ``torchrun`` starts them: each learns from its share of every batch.

Losses are divided by the words of the whole batch and gradients are summed, so that the steps are those of one
process. ``DistributedDataParallel`` takes the mean over processes instead, in which a share with few words would weigh
as much as one with many, and wants the loss to come of one ``forward``, where a stage calls parts of the model.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed

_PATIENCE = timedelta(hours=12)  # the others wait while the first one caches features and validates


def rank() -> int:
    """The number of this process, 0 where there is but one."""
    return int(os.environ.get("RANK", 0))


class Processes:
    """This process among ``count``, as number ``rank``; the first one writes, and speaks, for all."""

    def __init__(self) -> None:
        self.rank, self.count = rank(), int(os.environ.get("WORLD_SIZE", 1))
        card = torch.cuda.is_available()
        self.device = torch.device("cuda" if card else "cpu")
        if self.count > 1:
            if card:
                self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
                torch.cuda.set_device(self.device)
            if not distributed.is_initialized():  # a run within a run, of a teacher, is in the same group
                distributed.init_process_group("nccl" if card else "gloo", timeout=_PATIENCE)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, of a tensor on this one's device."""
        if self.count > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Give all processes the sum of their gradients, in one exchange."""
        if self.count == 1:
            return
        learning = list(parameters)
        flat = torch.cat([_gradient(parameter).flatten() for parameter in learning])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [parameter.numel() for parameter in learning])
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
        if self.count > 1:
            distributed.barrier()


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
