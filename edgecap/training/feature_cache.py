"""The frozen backbone's grids of augmented photos on disk, so that the decoder's epochs cost no convolution."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgecap.data.augmentation import cached_view
from edgecap.data.karpathy import CaptionedPhoto
from edgecap.model.encoder import Encoder
from edgecap.runtime.backend import FloatArray
from edgecap.runtime.preprocess import PreprocessConfig, load_image, normalize
from edgecap.training.config import TrainConfig

Grids = NDArray[np.float16]  # of one view of a split: (photos, L, C), memory-mapped
ENCODE_BATCH = 32


@dataclass(frozen=True)
class GridCache:
    """Grids by photo and view in a folder; ``advance(n)`` is told of n photos done."""

    folder: Path
    encoder: Encoder
    preprocess: PreprocessConfig
    config: TrainConfig
    advance: Callable[[int], object]

    def views(self, photos: Sequence[CaptionedPhoto], count: int) -> list[Grids]:
        """The first ``count`` views, computing those that are not there yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        key = self._key(photos)
        paths = [self.folder / f"{key}-view{view}.npy" for view in range(count)]
        for view, path in enumerate(paths):
            if path.exists():
                self.advance(len(photos))
            else:
                self._write(photos, view, path)
        return [np.load(path, mmap_mode="r") for path in paths]

    def _key(self, photos: Sequence[CaptionedPhoto]) -> str:
        """Hash of all that the grids depend on: the backbone's weights, the photos, the augmentation."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.encoder.backbone.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().numpy().tobytes())
        config, files = self.config, [(photo.id, photo.path.stat().st_size) for photo in photos]
        recipe = [config.seed, config.crop, config.flip, config.precision, config.activation]
        digest.update(json.dumps([recipe, self.preprocess.to_json(), files]).encode())
        return digest.hexdigest()[:16]

    @torch.inference_mode()
    def _write(self, photos: Sequence[CaptionedPhoto], view: int, path: Path) -> None:
        """Compute one view. The file gets its name when it is whole, so a killed run loses one view at most."""
        device = next(self.encoder.parameters()).device
        partial = path.with_name(path.name + ".partial")
        grids: Grids | None = None
        self.encoder.eval()
        for start in range(0, len(photos), ENCODE_BATCH):
            images = self._images(photos[start : start + ENCODE_BATCH], view, start)  # (N, 3, S, S)
            batch = torch.from_numpy(images).to(device, memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
                grid = self.encoder.grid(batch)  # (N, L, C)
            if grids is None:
                shape = (len(photos), *grid.shape[1:])
                grids = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)  # type: ignore[no-untyped-call,unused-ignore]
            grids[start : start + len(grid)] = grid.half().cpu().numpy()
            self.advance(len(grid))
        assert isinstance(grids, np.memmap)  # a split has photos: CaptionDataset.split
        grids.flush()
        partial.replace(path)

    def _images(self, photos: Sequence[CaptionedPhoto], view: int, first: int) -> FloatArray:
        images = []
        for index, photo in enumerate(photos, first):
            rng = np.random.default_rng((self.config.seed, view, index))
            image = load_image(photo.path, self.preprocess)
            image = cached_view(image, view, rng, self.config.crop, self.config.flip)
            images.append(np.asarray(image))  # (S, S, 3)
        return normalize(np.stack(images), self.preprocess)  # (N, 3, S, S)
