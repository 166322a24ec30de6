"""What frozen networks make of fixed views of photos, computed once: a backbone's grids, an encoder's features."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgecap.architectures.backbones.weights import network_key
from edgecap.architectures.network import PhotoEncoder
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.training.sources.feature_cache import FeatureCache, Features, feature_key, filled
from edgecap.training.sources.fixed_views import FixedViews


class JoinedRows:
    """Features of several groups of photos, by the number of the photo among all of them."""

    def __init__(self, parts: Sequence[Features]) -> None:
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Features:
        part = bisect.bisect_right(self._ends, index)
        row: Features = self._parts[part][index - self._ends[part]]  # counted from the part's end
        return row


class Frozen(NamedTuple):
    """A network that does not learn, or the part of one whose rows are cached."""

    network: nn.Module  # all that the rows depend on, but what is done with what it gives
    rows: Callable[[Tensor], Tensor]  # photos (N, 3, S, S) -> (N, L, C)
    done: str = ""  # a name for that, where something is


def backbone_of(encoder: PhotoEncoder) -> Frozen:
    """Its grids."""
    return Frozen(encoder.eval().backbone, encoder.grid)


def all_of(encoder: PhotoEncoder) -> Frozen:
    """Its features."""
    return Frozen(encoder.eval(), encoder)


def joined_rows(
    cache: FeatureCache,
    frozen: Frozen,
    groups: Sequence[Sequence[Path]],
    views: FixedViews,
    preprocess: PreprocessConfig,
    precision: str,
) -> list[JoinedRows]:
    """By view, the rows of all photos of all groups: each group is cached apart, as other runs may have fewer."""
    return [
        JoinedRows([rows_of(cache, frozen, group, views, view, preprocess, precision) for group in groups if group])
        for view in range(views.count)
    ]


def rows_of(
    cache: FeatureCache,
    frozen: Frozen,
    photos: Sequence[Path],
    views: FixedViews,
    view: int,
    preprocess: PreprocessConfig,
    precision: str,
) -> Features:
    """Rows (photos, L, C) of one of the views of some photos."""
    how = [frozen.done] if frozen.done else []
    key = feature_key(network_key(frozen.network), precision, views.recipe(photos, preprocess), *how)
    device = next(frozen.network.parameters()).device

    def compute(rows: range) -> NDArray[np.float16]:
        paths = photos[rows.start : rows.stop]
        images = views.images(paths, [view] * len(rows), preprocess)
        batch = images.to(device, memory_format=torch.channels_last)  # (N, 3, S, S)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return frozen.rows(filled(batch))[: len(rows)].half().cpu().numpy()  # (N, L, C)

    return cache.features(f"{key}-view{view}", len(photos), compute)
