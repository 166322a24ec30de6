"""Which inputs a step sees of the photos: *views*. What is known of the photos is the other half of a source.

Of fixed views features can be cached, by whoever teaches; photos that are augmented anew have to be encoded as they
come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecap.architectures.network import CaptionNetwork
from edgecap.architectures.torch_engine import TorchEngine
from edgecap.data.augmentation import PLAIN_VIEW, WHOLE, random_cut
from edgecap.data.karpathy import CaptionedPhoto
from edgecap.metrics.split import EVALUATION_BATCH
from edgecap.runtime.engines.engine import Encoded
from edgecap.training.config import TrainConfig
from edgecap.training.report.progress import progress
from edgecap.training.sources.batches import EpochOrder
from edgecap.training.sources.feature_cache import FeatureCache
from edgecap.training.sources.fixed_views import FixedViews
from edgecap.training.sources.grids import JoinedRows, backbone_of, joined_rows, rows_of
from edgecap.training.sources.training_data import TrainingData


class Seen(NamedTuple):
    """What a step sees of N photos."""

    indices: NDArray[np.int64]  # (N,) which photos
    inputs: Tensor  # images (N, 3, S, S) or grids (N, L, C), float32
    views: NDArray[np.int64] | None = None  # (N,) which fixed view of each
    mirrored: NDArray[np.bool_] | None = None  # (N,) of which photos the view is shown mirrored


class Views(Protocol):
    """Train photos as a model's inputs, and val photos encoded."""

    fixed: int  # so many fixed views come, as they are: features can be cached of them. 0: others come

    def prepare(self, cache: Path) -> None:
        """Work before the first batch; ``cache`` is the folder for what outlives the process."""

    def cached_bytes(self) -> int:
        """What that leaves in the folder."""

    def shown(self, order: EpochOrder) -> Iterator[Seen]:
        """The inputs of an epoch, batch by batch. Raises ``ImageError`` naming a photo that cannot be read."""

    def features(self, inputs: Tensor) -> Tensor:
        """Features (N, L, D) of a batch's inputs, with gradients for what learns."""

    def encoded_val(self, backend: TorchEngine) -> Iterator[tuple[Sequence[CaptionedPhoto], Encoded]]:
        """The val photos in batches, encoded by the model as it stands."""


class CachedGrids:
    """The backbone is frozen, and its grids of fixed views of each photo are computed once."""

    _train_views: list[JoinedRows]
    _val_grids: JoinedRows

    def __init__(self, config: TrainConfig, model: CaptionNetwork, data: TrainingData) -> None:
        self._model, self._data, self._precision = model, data, config.precision
        self._views, self.fixed = FixedViews.of(config, config.views, data.photos), config.views

    def prepare(self, cache: Path) -> None:
        data, views, encoder = self._data, self._views, self._model.encoder
        with progress("caching features", len(data.learnt) * self.fixed + len(data.val)) as bar:
            features = FeatureCache(cache, bar.update)
            backbone, how = backbone_of(encoder), (data.preprocess, self._precision)
            self._train_views = joined_rows(features, backbone, data.groups, views, *how)
            val = [rows_of(features, backbone, group, views, PLAIN_VIEW, *how) for group in data.val_groups]
            self._val_grids = JoinedRows(val)

    def cached_bytes(self) -> int:
        size = self._data.preprocess.size
        encoder = self._model.encoder.eval()
        with torch.inference_mode():
            (grid,) = encoder.grid(torch.zeros(1, 3, size, size, device=next(encoder.parameters()).device))  # (L, C)
        photos = len(self._data.learnt) * self.fixed + len(self._data.val)
        return photos * int(grid.numel()) * 2  # float16

    def shown(self, order: EpochOrder) -> Iterator[Seen]:
        chosen = order.views(len(self._data.learnt), self.fixed)
        for indices in order:
            rows = np.stack([self._train_views[chosen[index]][index] for index in indices])  # (N, L, C) float16
            yield Seen(indices, torch.from_numpy(rows).float(), chosen[indices])

    def features(self, inputs: Tensor) -> Tensor:
        return self._model.encoder.projection(inputs)  # type: ignore[no-any-return]

    def encoded_val(self, backend: TorchEngine) -> Iterator[tuple[Sequence[CaptionedPhoto], Encoded]]:
        for start in range(0, len(self._data.val), EVALUATION_BATCH):
            photos = self._data.val[start : start + EVALUATION_BATCH]
            rows = np.stack([self._val_grids[start + n] for n in range(len(photos))])  # (N, L, C) float16
            yield photos, backend.encode_grid(torch.from_numpy(rows).float())


class _Photos:
    """The backbone learns, so photos and not grids are what a step takes."""

    def __init__(self, config: TrainConfig, model: CaptionNetwork, data: TrainingData) -> None:
        self._config, self._model, self._data = config, model, data

    def prepare(self, cache: Path) -> None:
        """Photos are read as they come, so there is nothing to cache."""

    def cached_bytes(self) -> int:
        return 0

    def features(self, inputs: Tensor) -> Tensor:
        return self._model.encoder(inputs.to(memory_format=torch.channels_last))  # type: ignore[no-any-return]

    def encoded_val(self, backend: TorchEngine) -> Iterator[tuple[Sequence[CaptionedPhoto], Encoded]]:
        data = self._data
        for start in range(0, len(data.val), EVALUATION_BATCH):
            photos = data.val[start : start + EVALUATION_BATCH]
            images = data.photos.images([photo.path for photo in photos], [WHOLE] * len(photos), data.preprocess)
            yield photos, backend.encode_images(images)


class PhotosAnew(_Photos):
    """Photos that are augmented anew in every epoch."""

    fixed = 0

    def shown(self, order: EpochOrder) -> Iterator[Seen]:
        data, paths, how = self._data, self._data.paths, self._config.augmentation
        for indices in order:
            cuts = [random_cut(order.rng(index), how) for index in indices.tolist()]
            images = data.photos.images([paths[index] for index in indices], cuts, data.preprocess)  # (N, 3, S, S)
            yield Seen(indices, images)


class PhotosInViews(_Photos):
    """Photos in fixed views, one of each drawn for an epoch."""

    def __init__(self, config: TrainConfig, model: CaptionNetwork, data: TrainingData, views: FixedViews) -> None:
        super().__init__(config, model, data)
        self._views, self.fixed = views, views.count

    def shown(self, order: EpochOrder) -> Iterator[Seen]:
        photos = self._data.paths
        chosen = order.views(len(photos), self.fixed)
        for indices in order:
            paths = [photos[index] for index in indices]
            images = self._views.images(paths, chosen[indices].tolist(), self._data.preprocess)  # (N, 3, S, S)
            yield Seen(indices, images, chosen[indices])


class MirroredPhotos(_Photos):
    """Some ``photos`` in fixed views that are drawn for each batch and, with flips, mirrored half of the time.

    So as many views again cost a teacher nothing that mirrors its maps. Other features know nothing of a mirrored view.
    """

    fixed = 0

    def __init__(
        self,
        config: TrainConfig,
        model: CaptionNetwork,
        data: TrainingData,
        views: FixedViews,
        photos: Sequence[Path],
    ) -> None:
        super().__init__(config, model, data)
        self._views, self._photos = views, photos

    def shown(self, order: EpochOrder) -> Iterator[Seen]:
        for indices in order:
            yield self.drawn(indices, order.rng(int(indices[0])))

    def drawn(self, indices: NDArray[np.int64], rng: np.random.Generator) -> Seen:
        """Views of N photos, drawn at random."""
        views = rng.integers(self._views.count, size=len(indices))
        mirrored = rng.random(len(indices)) < (0.5 if self._config.flip else 0)
        paths = [self._photos[index] for index in indices]
        shown = zip(self._views.cuts(paths, views.tolist()), mirrored.tolist(), strict=True)
        cuts = [cut._replace(mirrored=cut.mirrored != turned) for cut, turned in shown]
        images = self._data.photos.images(paths, cuts, self._data.preprocess)  # (N, 3, S, S)
        return Seen(indices, images, views, mirrored)
