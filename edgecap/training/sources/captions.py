"""The captions of photos as token ids, which every batch of photos that have some comes with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

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

    def of(self, indices: NDArray[np.int64], *, whole: bool = False) -> Tensor:
        """Token ids of the captions of some photos, (N, K, T + 1) int64; if ``whole``, K and T are those of any."""
        captions = [self.photos[index].captions for index in indices]
        return pad_captions(captions, self.vocabulary, self.max_words, least=self._most if whole else 0)

    @cached_property
    def _most(self) -> int:
        return max(len(photo.captions) for photo in self.photos)


def pad_captions(
    captions: Sequence[Sequence[Sequence[str]]], vocabulary: Vocabulary, max_words: int, *, least: int = 0
) -> Tensor:
    """Token ids of the captions of N photos, (N, K, T + 1) int64; a photo with fewer captions gets empty ones.

    With ``least``, K is at least that, and T is that of the longest captions that there may be.
    """
    encoded = [[_ids(words, vocabulary, max_words) for words in photo] for photo in captions]
    return pad_ids(encoded, vocabulary.pad_id, least=(least, max_words + 2) if least else (0, 0))


def pad_ids(encoded: Sequence[Sequence[Sequence[int]]], pad_id: int, *, least: tuple[int, int] = (0, 0)) -> Tensor:
    """The same from token ids, ``<start>`` and ``<end>`` among them: each photo's captions from long to short.

    K and T + 1 are at ``least`` those.
    """
    count = max(least[0], *(len(photo) for photo in encoded))
    length = max(least[1], *(len(ids) for photo in encoded for ids in photo))
    padded = np.full((len(encoded), count, length), pad_id, np.int64)
    for row, photo in enumerate(encoded):
        for column, ids in enumerate(sorted(photo, key=len, reverse=True)):
            padded[row, column, : len(ids)] = ids
    return torch.from_numpy(padded)


def by_caption_count(captions: Tensor) -> Iterator[tuple[Tensor | slice, Tensor]]:
    """Captions (N, K, T + 1) apart by how many a photo has: the photos' rows (n,), and their captions (n, k, T + 1).

    Beside a photo with five captions one with a single caption would cost as much as five. Captions that are on a
    graphics card already stay together: looking at them would be waiting for it.
    """
    if captions.is_cuda:
        yield slice(None), captions
        return
    counts = (captions[:, :, 0] != 0).sum(dim=1)  # (N,)
    for count in sorted(set(counts.tolist())):
        rows = (counts == count).nonzero()[:, 0]  # (n,)
        yield rows, captions[rows, :count]


def _ids(words: Sequence[str], vocabulary: Vocabulary, max_words: int) -> list[int]:
    # A caption that is cut does not end there, so it gets no <end>.
    end = [vocabulary.end_id] if len(words) <= max_words else []
    return [vocabulary.start_id, *vocabulary.encode(words[:max_words]), *end]
