"""The photos that INT8 ranges are measured on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecap.data.karpathy import CaptionDataset
from edgecap.errors import DataError
from edgecap.export.recipe import ExportRecipe
from edgecap.runtime.photo import EXTENSIONS
from edgecap.runtime.preprocess import PreprocessConfig, to_tensor

MIN_PHOTOS = 16  # for INT8


@dataclass(frozen=True)
class CalibrationSet:
    """Photos for calibration and parity, by the ids that ``calibration.json`` keeps."""

    source: str
    ids: tuple[str, ...]
    paths: tuple[Path, ...]

    def require_enough(self) -> None:
        """Raise ``DataError`` for so few photos that their ranges would be chance."""
        if len(self.ids) < MIN_PHOTOS:
            raise DataError(self.source, f"{len(self.ids)} photos to calibrate on; at least {MIN_PHOTOS} are needed")

    def tensors(self, preprocess: PreprocessConfig) -> Iterator[NDArray[np.float32]]:
        """Preprocessed photos one by one, (1, 3, S, S) float32. Raises ``ImageError`` naming one that is broken."""
        for path in self.paths:
            yield to_tensor(path, preprocess)


def from_dataset(dataset: CaptionDataset, recipe: ExportRecipe) -> CalibrationSet:
    """Photos of the train split, drawn at random with the recipe's seed."""
    photos = dataset.split("train")
    chosen = [photos[index] for index in _draw(len(photos), recipe)]
    return CalibrationSet(dataset.name, tuple(photo.id for photo in chosen), tuple(photo.path for photo in chosen))


def from_folder(folder: Path, recipe: ExportRecipe) -> CalibrationSet:
    """Photos of a folder, drawn at random with the recipe's seed. Raises ``DataError``."""
    if not folder.is_dir():
        raise DataError(folder, "no such folder of calibration photos")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)
    chosen = [paths[index] for index in _draw(len(paths), recipe)]
    return CalibrationSet(folder.name, tuple(path.name for path in chosen), tuple(chosen))


def _draw(count: int, recipe: ExportRecipe) -> list[int]:
    order = np.random.default_rng(recipe.calibration_seed).permutation(count)
    return [int(index) for index in order[: recipe.calibration_photos]]
