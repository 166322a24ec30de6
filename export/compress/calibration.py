"""The photos that INT8 ranges are measured on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgecap.data.mixture import Mixture
from edgecap.data.omissions import Omissions
from edgecap.data.photo_check import readable_paths
from edgecap.errors import DataError, brief
from edgecap.export.recipe import ExportRecipe
from edgecap.runtime.bundle.fields import Fields
from edgecap.runtime.photo.folder import photos_in
from edgecap.runtime.photo.preprocess import PreprocessConfig, to_tensor
from edgecap.runtime.wording import counted

T = TypeVar("T")
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
            raise DataError(
                self.source, f"{counted(len(self.ids), 'photo')} to calibrate on; at least {MIN_PHOTOS} are needed"
            )

    def tensors(self, preprocess: PreprocessConfig) -> Iterator[NDArray[np.float32]]:
        """Preprocessed photos one by one, (1, 3, S, S) float32. Raises ``ImageError`` naming one that is broken."""
        for path in self.paths:
            yield to_tensor(path, preprocess)

    def batches(self, preprocess: PreprocessConfig, size: int) -> Iterator[NDArray[np.float32]]:
        """As :meth:`tensors`, in batches (N, 3, S, S) of at most ``size`` photos."""
        tensors = self.tensors(preprocess)
        while batch := list(islice(tensors, size)):
            yield np.concatenate(batch)

    def first(self, count: int) -> CalibrationSet:
        """The first ``count`` photos of the set, which is in random order."""
        return CalibrationSet(self.source, self.ids[:count], self.paths[:count])


def from_datasets(datasets: Mixture, recipe: ExportRecipe) -> CalibrationSet:
    """Photos of the train splits, drawn at random with the recipe's seed from those that can be read."""
    for part in datasets.parts:
        part.dataset.listed("train")  # or it is said that there are none
    omissions = Omissions(datasets.source)
    photos = {photo.path: photo for photo in datasets.listed("train")}
    chosen = _drawn(list(photos), lambda some: readable_paths(some, omissions), recipe)
    omissions.report()
    return CalibrationSet(datasets.name, tuple(photos[path].id for path in chosen), tuple(chosen))


def from_folder(folder: Path, recipe: ExportRecipe) -> CalibrationSet:
    """Photos of a folder, drawn likewise. Raises ``DataError``."""
    if not folder.is_dir():
        raise DataError(folder, "no such folder of calibration photos")
    paths, _ = photos_in(folder)
    omissions = Omissions(folder)
    chosen = _drawn(paths, lambda some: readable_paths(some, omissions), recipe)
    omissions.report()
    return CalibrationSet(folder.name, tuple(path.name for path in chosen), tuple(chosen))


def from_ids(datasets: Mixture, ids: Sequence[str]) -> CalibrationSet:
    """Exactly these photos of datasets, as ``calibration.json`` lists them. Raises ``DataError``."""
    held_out = {photo.id for photo in datasets.listed("val")}
    splits = dict.fromkeys(split for part in datasets.parts for split in part.dataset.splits)
    photos = {photo.id: photo for split in splits for photo in datasets.listed(split)}
    for name in ids:
        if name not in photos:
            raise DataError(datasets.source, f"has no photo {name!r} to calibrate on")
        if name in held_out:
            raise DataError(
                datasets.source, f"photo {name!r} is of val, which measures the captions: calibrate on others"
            )
    unique = tuple(dict.fromkeys(ids))
    return CalibrationSet(datasets.name, unique, tuple(photos[name].path for name in unique))


def read_ids(given: str) -> tuple[str, ...]:
    """Photo ids from a ``calibration.json``, from a file with one a line, or separated by commas.

    Raises ``DataError``.
    """
    if not is_path(given):
        return tuple(name.strip() for name in given.split(",") if name.strip())
    path = Path(given)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            return tuple(line.strip() for line in text.splitlines() if line.strip())
        return Fields(json.loads(text), path.name).values("photos", str)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(path, f"is no list of photo ids: {brief(error)}") from error


def is_path(given: str) -> bool:
    """Whether there is a file or folder of that name; ids with commas may be longer than any name can be."""
    try:
        return Path(given).exists()
    except OSError:
        return False


def _drawn(photos: Sequence[T], readable: Callable[[Sequence[T]], Iterable[T]], recipe: ExportRecipe) -> list[T]:
    order = np.random.default_rng(recipe.calibration_seed).permutation(len(photos))
    remaining = (photos[index] for index in order)
    chosen: list[T] = []
    while more := list(islice(remaining, recipe.calibration_photos - len(chosen))):
        chosen += readable(more)
    return chosen
