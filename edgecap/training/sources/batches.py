"""Batches of photos, in an order that depends on nothing but seed and epoch.

So a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecap.data.mixture import drawn

Made = TypeVar("Made")


class TeacherTensors(NamedTuple):
    """A teacher's features of N photos, float32, standardised."""

    grid: Tensor  # (N, L, D)
    pooled: Tensor  # (N, P)


@dataclass(frozen=True)
class Batch:
    """What one step learns from; a part that its stage has no use for is empty."""

    indices: NDArray[np.int64]  # (N,) which photos or sentences of the stage's
    inputs: Tensor  # images (N, 3, S, S) or grids (N, L, C), float32
    captions: Tensor  # (N, K, T + 1) int64, <start> .. <end> <pad>.., each photo's captions from long to short
    teacher: TeacherTensors | None = None
    known: tuple[Tensor, ...] = ()  # by task teacher its cached features (N, L, D), float16

    def to(self, device: torch.device) -> Batch:
        """The same on a device, but for the captions: what has to be counted in them must not wait for it."""
        teacher = self.teacher and TeacherTensors(*(moved(tensor, device) for tensor in self.teacher))
        known = tuple(moved(tensor, device) for tensor in self.known)
        captions = self.captions
        if device.type == "cuda" and not captions.is_cuda:
            captions = captions.pin_memory()
        return replace(self, inputs=moved(self.inputs, device), captions=captions, teacher=teacher, known=known)

    def tensors(self) -> list[Tensor]:
        """All that a step computes with."""
        return [self.inputs, self.captions, *(self.teacher or ()), *self.known]


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; from memory that a graphics card reads by itself, so that nothing waits for it."""
    if device.type == "cuda" and not tensor.is_cuda:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class EpochOrder:
    """Which of ``count`` photos the batches of one epoch hold, from batch ``first`` on.

    Photos of several datasets come with ``parts``: how many each has, and its weight, how often an epoch has each photo
    of it. Of a part of one, which photos is drawn anew for each epoch.

    Of several processes each gets its ``share`` of every batch, (rank, processes); a last batch that is too small for
    all of them is left out.
    """

    seed: int
    stage: int
    epoch: int
    batch_size: int
    count: int
    first: int = 0
    share: tuple[int, int] = (0, 1)
    parts: tuple[tuple[int, float], ...] = ()
    whole: bool = False  # all batches are of one shape: captions are padded, and a smaller last batch is left out

    @property
    def shown(self) -> int:
        """How many photos the epoch has, one that it has twice counted twice."""
        return drawn(self.parts) if self.parts else self.count

    def __len__(self) -> int:
        """Batches of the whole epoch."""
        whole, rest = divmod(self.shown, self.batch_size)
        return whole + (rest >= self.share[1] and not self.whole)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Indices of each batch's photos, (N,) int64."""
        order = self._order(np.random.default_rng((self.seed, self.stage, self.epoch)))
        rank, processes = self.share
        for batch in range(self.first, len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size][rank::processes]

    def _order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """All photos of the epoch, (shown,) int64."""
        if all(weight == 1 for _, weight in self.parts):
            return rng.permutation(self.count)
        chosen, first = [], 0
        for count, weight in self.parts:
            whole, rest = divmod(drawn([(count, weight)]), count)
            own = np.arange(first, first + count)
            chosen += [own] * whole + [rng.permutation(own)[:rest]]
            first += count
        return rng.permutation(np.concatenate(chosen))

    def rng(self, index: int) -> np.random.Generator:
        """Random numbers of one photo in this epoch."""
        return np.random.default_rng((self.seed, self.stage, self.epoch, index))

    def views(self, photos: int, count: int) -> NDArray[np.int64]:
        """Which of ``count`` views of each of all photos this epoch shows, (photos,)."""
        return self.rng(photos).integers(count, size=photos)


def made_ahead(batches: Iterator[Made]) -> Iterator[Made]:
    """The same batches, each made in a thread while the one before it is learnt."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch
