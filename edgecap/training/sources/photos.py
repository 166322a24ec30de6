"""Where the pixels of photos come from: their files, one by one, or the memory that all of them were decoded into.

A graphics card is many times faster than the reading of files, so it keeps the photos beside the network, cuts views
out of them and normalises them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from edgecap.data.augmentation import WHOLE, Cut, cut_out
from edgecap.errors import ConfigError
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.photo.preprocess import PreprocessConfig, load_image, normalize
from edgecap.runtime.wording import counted, human_bytes
from edgecap.training.report.progress import progress
from edgecap.training.sources.workers import in_order

_DECODED_AT_ONCE = 1024  # photos, between which progress is shown
_SHARE = 0.5  # of what is free on the card, for photos: the rest is for learning


class Photos(Protocol):
    """Pixels of photos."""

    interpolation: str  # of what is cut out of them

    def images(self, paths: Sequence[Path], cuts: Sequence[Cut], preprocess: PreprocessConfig) -> Tensor:
        """A view of each of N photos, (N, 3, S, S) float32. Raises ``ImageError`` naming one that cannot be read."""


@dataclass(frozen=True)
class PhotoFiles:
    """Each photo is read when it is wanted, by so many threads."""

    workers: int = 1
    interpolation = "bicubic"

    def images(self, paths: Sequence[Path], cuts: Sequence[Cut], preprocess: PreprocessConfig) -> Tensor:
        def image(of: tuple[Path, Cut]) -> FloatArray:
            path, cut = of
            pixels = np.asarray(cut_out(load_image(path, preprocess), cut))  # (S, S, 3)
            return normalize(pixels[np.newaxis], preprocess)  # (1, 3, S, S)

        return torch.from_numpy(np.concatenate(in_order(image, list(zip(paths, cuts, strict=True)), self.workers)))


class PhotosInMemory:
    """All photos are decoded once, to the size that networks want. Views are cut out on their device."""

    interpolation = "bilinear"

    def __init__(self, paths: Sequence[Path], preprocess: PreprocessConfig, device: torch.device, workers: int) -> None:
        self._size = preprocess.size
        self._rows = {path: row for row, path in enumerate(paths)}
        # As they are for networks that want them normalised otherwise, such as a teacher that is trained first.
        alike = replace(preprocess, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self._pixels = torch.from_numpy(_decoded(tuple(paths), alike, workers)).to(device)  # (n, S, S, 3)

    def images(self, paths: Sequence[Path], cuts: Sequence[Cut], preprocess: PreprocessConfig) -> Tensor:
        assert preprocess.size == self._size  # of all networks of a run
        device = self._pixels.device
        rows = torch.tensor([self._rows[path] for path in paths], device=device)
        pixels = self._pixels[rows].permute(0, 3, 1, 2)  # (N, 3, S, S) uint8
        # As ``normalize`` does it, to the bit.
        scale = torch.tensor([1 / (255 * std) for std in preprocess.std], device=device)
        offset = torch.tensor([mean / std for mean, std in zip(preprocess.mean, preprocess.std, strict=True)])
        images = pixels.float() * scale[:, None, None] - offset.to(device)[:, None, None]
        if all(cut == WHOLE for cut in cuts):
            return images
        grid = F.affine_grid(_affine(cuts).to(device), list(images.shape), align_corners=False)  # (N, S, S, 2)
        return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _affine(cuts: Iterable[Cut]) -> Tensor:
    """From where a view's pixels are, on -1..1, to where they are in the photo: (N, 2, 3)."""
    rows = [
        [
            [-cut.width if cut.mirrored else cut.width, 0.0, 2 * cut.left + cut.width - 1],
            [0.0, cut.height, 2 * cut.top + cut.height - 1],
        ]
        for cut in cuts
    ]
    return torch.tensor(rows, dtype=torch.float32)


@lru_cache(maxsize=1)  # the photos of a run take much of the memory
def _decoded(paths: tuple[Path, ...], preprocess: PreprocessConfig, workers: int) -> NDArray[np.uint8]:
    """The pixels of photos, (n, S, S, 3): decoded once for a run and the teachers that are trained within it."""
    pixels = np.empty((len(paths), preprocess.size, preprocess.size, 3), np.uint8)

    def decode(row: int) -> None:
        pixels[row] = np.asarray(load_image(paths[row], preprocess))

    with progress("decoding photos", len(paths)) as bar:
        for start in range(0, len(paths), _DECODED_AT_ONCE):
            rows = range(start, min(start + _DECODED_AT_ONCE, len(paths)))
            in_order(decode, rows, workers)
            bar.update(len(rows))
    return pixels


def photos_for(
    asked: str,
    paths: Sequence[Path],
    preprocess: PreprocessConfig,
    device: torch.device,
    workers: int,
    say: Callable[[str], None],
) -> Photos:
    """What ``asked`` (yes, no or auto) comes to. Raises ``ImageError``, and ``ConfigError`` for photos without room."""
    size = len(paths) * 3 * preprocess.size**2
    if asked == "no" or (asked == "auto" and device.type != "cuda"):
        return PhotoFiles(workers)
    if device.type == "cuda" and size > _SHARE * (free := torch.cuda.mem_get_info(device)[0]):
        wanted = f"{counted(len(paths), 'photo')} in memory take {human_bytes(size)}, and {human_bytes(free)} are free"
        if asked == "yes":
            raise ConfigError(f"training configuration: {wanted} on the graphics card: set keep_photos=no")
        say(f"{wanted} on the graphics card: they are read as they come")
        return PhotoFiles(workers)
    return PhotosInMemory(paths, preprocess, device, workers)
