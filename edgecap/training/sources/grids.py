"""Grids of a frozen backbone: of fixed views of photos, computed once, for all whose backbone it is."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch

from edgecap.architectures.backbones.weights import network_key
from edgecap.architectures.network import PhotoEncoder
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.training.sources.feature_cache import FeatureCache, Features, feature_key
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


def joined_grids(
    cache: FeatureCache,
    encoder: PhotoEncoder,
    groups: Sequence[Sequence[Path]],
    views: FixedViews,
    preprocess: PreprocessConfig,
    precision: str,
) -> list[JoinedRows]:
    """By view, grids of all photos of all groups: each group is cached apart, as other runs may have fewer."""
    return [
        JoinedRows([grids(cache, encoder, group, views, view, preprocess, precision) for group in groups if group])
        for view in range(views.count)
    ]


def grids(
    cache: FeatureCache,
    encoder: PhotoEncoder,
    photos: Sequence[Path],
    views: FixedViews,
    view: int,
    preprocess: PreprocessConfig,
    precision: str,
) -> Features:
    """Grids (photos, L, C) of one of the views of some photos."""
    key = feature_key(network_key(encoder.backbone), precision, views.recipe(photos, preprocess))
    device = next(encoder.parameters()).device
    encoder.eval()

    def compute(rows: range) -> FloatArray:
        paths = photos[rows.start : rows.stop]
        images = views.images(paths, [view] * len(rows), preprocess)
        batch = torch.from_numpy(images).to(device, memory_format=torch.channels_last)  # (N, 3, S, S)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return encoder.grid(batch).float().cpu().numpy()  # (N, L, C)

    return cache.features(f"{key}-view{view}", len(photos), compute)
