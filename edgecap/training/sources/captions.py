"""The captions of photos as token ids, which every batch of photos that have some comes with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecap.data.karpathy import CaptionedPhoto
from edgecap.runtime.bundle.vocabulary import Vocabulary


@dataclass(frozen=True)
class Captions:
    """All captions of ``photos``, each cut at ``max_words``."""

    photos: Sequence[CaptionedPhoto]
    vocabulary: Vocabulary
    max_words: int

    def of(self, indices: NDArray[np.int64]) -> Tensor:
        """Token ids of the captions of some photos, (N, K, T + 1) int64."""
        return pad_captions([self.photos[index].captions for index in indices], self.vocabulary, self.max_words)


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
