"""Photos that look alike, and what is said of them: references beside the one or few captions that a photo has.

A photo's own captions are learnt by heart when a captioner is rewarded for them; those of photos that look like it say
what else may be said of such a photo (Devlin et al. 2015, "Exploring nearest neighbor approaches for image captioning",
arXiv:1505.04467).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from edgecap.data.karpathy import CaptionedPhoto
from edgecap.runtime.engines.engine import FloatArray
from edgecap.training.sources.training_data import TrainingData

_AT_ONCE = 1024  # photos that are held against all


def nearest(features: FloatArray, count: int) -> NDArray[np.int64]:
    """By cosine, the ``count`` rows of features (n, D) that are nearest to each, without itself: (n, count)."""
    directions = torch.nn.functional.normalize(torch.from_numpy(features), dim=1)
    found = []
    for start in range(0, len(directions), _AT_ONCE):
        likeness = directions[start : start + _AT_ONCE] @ directions.T  # (N, n)
        rows = torch.arange(len(likeness))
        likeness[rows, start + rows] = -torch.inf
        found.append(likeness.topk(min(count, len(directions) - 1), dim=1).indices)
    return torch.cat(found).numpy()


def references_beside(
    data: TrainingData, people: Sequence[CaptionedPhoto], neighbours: NDArray[np.int64]
) -> dict[str, list[tuple[str, ...]]]:
    """By photo id, the captions that people gave its neighbours (n, count), and those that teachers gave itself."""
    beside = {}
    for photo, own, alike in zip(data.train, people, neighbours, strict=True):
        added = photo.captions[len(own.captions) :]
        beside[photo.id] = [*added, *(caption for row in alike for caption in people[row].captions)]
    return beside
