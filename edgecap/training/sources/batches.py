"""Batches of photos with all of their captions, in an order that depends on nothing but seed and epoch.

So a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecap.data.augmentation import random_view
from edgecap.data.karpathy import CaptionedPhoto
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.photo.preprocess import PreprocessConfig, load_image, normalize
from edgecap.training.config import TrainConfig
from edgecap.training.sources.grids import JoinedRows
from edgecap.training.sources.views import view_images


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
    views: NDArray[np.int64] | None = None  # (N,) which cached view of each photo

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        teacher = self.teacher and TeacherTensors(*(tensor.to(device) for tensor in self.teacher))
        return replace(self, inputs=self.inputs.to(device), captions=self.captions.to(device), teacher=teacher)


def pad_captions(captions: Sequence[Sequence[Sequence[str]]], vocabulary: Vocabulary, max_words: int) -> Tensor:
    """Token ids of the captions of N photos, (N, K, T + 1) int64; a photo with fewer captions gets empty ones."""
    encoded = [[_ids(words, vocabulary, max_words) for words in photo] for photo in captions]
    return pad_ids(encoded, vocabulary.pad_id)


def pad_ids(encoded: Sequence[Sequence[Sequence[int]]], pad_id: int) -> Tensor:
    """The same from token ids, ``<start>`` and ``<end>`` among them: each photo's captions from long to short."""
    count = max(len(photo) for photo in encoded)
    length = max(len(ids) for photo in encoded for ids in photo)
    padded = torch.full((len(encoded), count, length), pad_id, dtype=torch.int64)
    for row, photo in enumerate(encoded):
        for column, ids in enumerate(sorted(photo, key=len, reverse=True)):
            padded[row, column, : len(ids)] = torch.tensor(ids)
    return padded


def captions_of(
    photos: Sequence[CaptionedPhoto], indices: NDArray[np.int64], vocabulary: Vocabulary, config: TrainConfig
) -> Tensor:
    """Token ids of all captions of the photos of a batch, (N, K, T + 1) int64."""
    return pad_captions([photos[index].captions for index in indices], vocabulary, config.max_words)


def by_caption_count(captions: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Captions (N, K, T + 1) apart by how many a photo has: the photos' rows (n,), and their captions (n, k, T + 1).

    Beside a photo with five captions one with a single caption would cost as much as five.
    """
    counts = (captions[:, :, 0] != 0).sum(dim=1)  # (N,)
    for count in sorted(set(counts.tolist())):
        rows = (counts == count).nonzero()[:, 0]  # (n,)
        yield rows, captions[rows, :count]


def _ids(words: Sequence[str], vocabulary: Vocabulary, max_words: int) -> list[int]:
    # A caption that is cut does not end there, so it gets no <end>.
    end = [vocabulary.end_id] if len(words) <= max_words else []
    return [vocabulary.start_id, *vocabulary.encode(words[:max_words]), *end]


@dataclass(frozen=True)
class EpochOrder:
    """Which of ``count`` photos the batches of one epoch hold, from batch ``first`` on.

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

    def __len__(self) -> int:
        """Batches of the whole epoch."""
        whole, rest = divmod(self.count, self.batch_size)
        return whole + (rest >= self.share[1])

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Indices of each batch's photos, (N,) int64."""
        order = np.random.default_rng((self.seed, self.stage, self.epoch)).permutation(self.count)
        rank, processes = self.share
        for batch in range(self.first, len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size][rank::processes]

    def rng(self, index: int) -> np.random.Generator:
        """Random numbers of one photo in this epoch."""
        return np.random.default_rng((self.seed, self.stage, self.epoch, index))


def image_batches(
    photos: Sequence[CaptionedPhoto],
    vocabulary: Vocabulary,
    preprocess: PreprocessConfig,
    config: TrainConfig,
    order: EpochOrder,
) -> Iterator[Batch]:
    """Augmented photos. Raises ``ImageError`` naming a photo that cannot be read."""
    for indices in order:
        images = []
        for index in indices:
            image = load_image(photos[index].path, preprocess)
            image = random_view(image, order.rng(int(index)), config.augmentation)
            images.append(np.asarray(image))  # (S, S, 3)
        inputs = torch.from_numpy(normalize(np.stack(images), preprocess))  # (N, 3, S, S)
        yield Batch(indices, inputs, captions_of(photos, indices, vocabulary, config))


def grid_batches(
    photos: Sequence[CaptionedPhoto],
    vocabulary: Vocabulary,
    views: Sequence[JoinedRows],
    config: TrainConfig,
    order: EpochOrder,
) -> Iterator[Batch]:
    """Cached grids, of each photo one view drawn at random."""
    chosen = _drawn_views(order, len(photos), len(views))
    for indices in order:
        grids = np.stack([views[chosen[index]][index] for index in indices])  # (N, L, C) float16
        captions = captions_of(photos, indices, vocabulary, config)
        yield Batch(indices, torch.from_numpy(grids).float(), captions, views=chosen[indices])


def view_batches(
    photos: Sequence[CaptionedPhoto],
    vocabulary: Vocabulary,
    preprocess: PreprocessConfig,
    config: TrainConfig,
    order: EpochOrder,
) -> Iterator[Batch]:
    """Photos, each in one of its ``config.task_views`` fixed views, drawn at random."""
    chosen = _drawn_views(order, len(photos), config.task_views)
    for indices in order:
        paths = [photos[index].path for index in indices]
        images = view_images(paths, chosen[indices].tolist(), preprocess, config.augmentation, config.seed)
        captions = captions_of(photos, indices, vocabulary, config)
        yield Batch(indices, torch.from_numpy(images), captions, views=chosen[indices])


def _drawn_views(order: EpochOrder, photos: int, views: int) -> NDArray[np.int64]:
    """Which view of each photo an epoch shows, (photos,)."""
    return order.rng(photos).integers(views, size=photos)


def made_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, each made in a thread while the one before it is learnt."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch
