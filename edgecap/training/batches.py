"""Batches of training photos with all of their captions, in an order that depends on nothing but seed and epoch.

So a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecap.data.augmentation import random_view
from edgecap.data.karpathy import CaptionedPhoto
from edgecap.runtime.preprocess import PreprocessConfig, load_image, normalize
from edgecap.runtime.vocabulary import Vocabulary
from edgecap.training.config import TrainConfig
from edgecap.training.feature_cache import Grids


@dataclass(frozen=True)
class Batch:
    """Photos, or what a frozen backbone made of them, and their captions."""

    inputs: Tensor  # images (N, 3, S, S) or grids (N, L, C), float32
    captions: Tensor  # (N, K, T + 1) int64, <start> .. <end> <pad>.., each photo's captions from long to short


def pad_captions(captions: Sequence[Sequence[Sequence[str]]], vocabulary: Vocabulary, max_words: int) -> Tensor:
    """Token ids of the captions of N photos, (N, K, T + 1) int64; a photo with fewer captions gets empty ones."""
    encoded = [[_ids(words, vocabulary, max_words) for words in photo] for photo in captions]
    count = max(len(photo) for photo in encoded)
    length = max(len(ids) for photo in encoded for ids in photo)
    padded = torch.full((len(encoded), count, length), vocabulary.pad_id, dtype=torch.int64)
    for row, photo in enumerate(encoded):
        for column, ids in enumerate(sorted(photo, key=len, reverse=True)):
            padded[row, column, : len(ids)] = torch.tensor(ids)
    return padded


def _ids(words: Sequence[str], vocabulary: Vocabulary, max_words: int) -> list[int]:
    # A caption that is cut does not end there, so it gets no <end>.
    end = [vocabulary.end_id] if len(words) <= max_words else []
    return [vocabulary.start_id, *vocabulary.encode(words[:max_words]), *end]


@dataclass(frozen=True)
class EpochOrder:
    """Which photos the batches of one epoch hold, from batch ``first`` on."""

    config: TrainConfig
    stage: int
    epoch: int
    first: int = 0

    def indices(self, count: int) -> Iterator[NDArray[np.int64]]:
        """Indices of each batch's photos out of ``count``, (N,) int64."""
        size = self.config.batch_size
        order = np.random.default_rng((self.config.seed, self.stage, self.epoch)).permutation(count)
        for start in range(self.first * size, count, size):
            yield order[start : start + size]


def image_batches(
    photos: Sequence[CaptionedPhoto], vocabulary: Vocabulary, preprocess: PreprocessConfig, order: EpochOrder
) -> Iterator[Batch]:
    """Augmented photos. Raises ``ImageError`` naming a photo that cannot be read."""
    config = order.config
    for indices in order.indices(len(photos)):
        images = []
        for index in indices:
            rng = np.random.default_rng((config.seed, order.stage, order.epoch, int(index)))
            image = random_view(load_image(photos[index].path, preprocess), rng, config.crop, config.flip)
            images.append(np.asarray(image))  # (S, S, 3)
        inputs = torch.from_numpy(normalize(np.stack(images), preprocess))  # (N, 3, S, S)
        captions = [photos[index].captions for index in indices]
        yield Batch(inputs, pad_captions(captions, vocabulary, config.max_words))


def grid_batches(
    photos: Sequence[CaptionedPhoto], vocabulary: Vocabulary, views: Sequence[Grids], order: EpochOrder
) -> Iterator[Batch]:
    """Cached grids, of each photo one view drawn at random."""
    config = order.config
    rng = np.random.default_rng((config.seed, order.stage, order.epoch, len(photos)))
    chosen = rng.integers(len(views), size=len(photos))
    for indices in order.indices(len(photos)):
        grids = np.stack([views[chosen[index]][index] for index in indices])  # (N, L, C) float16
        captions = [photos[index].captions for index in indices]
        yield Batch(torch.from_numpy(grids).float(), pad_captions(captions, vocabulary, config.max_words))


def made_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, each made in a thread while the one before it is learnt."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch
