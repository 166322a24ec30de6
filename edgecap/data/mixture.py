"""Several datasets in one training: each with its own photos and a weight, and none taken for another's."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from edgecap.data.karpathy import CaptionDataset, CaptionedPhoto, load_dataset
from edgecap.data.omissions import to_stderr
from edgecap.errors import ConfigError, DataError
from edgecap.runtime.wording import counted

MAX_WEIGHT = 100
_OPTION = re.compile(r",(photos|weight)=")


@dataclass(frozen=True)
class DataSource:
    """Where a dataset is, and how often an epoch has each of its train photos: 0.5 is half of them, drawn anew."""

    data: Path
    photos: Path | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight <= MAX_WEIGHT:  # not of a NaN either
            raise ConfigError(f"{self.data}: weight must be above 0 and at most {MAX_WEIGHT}, not {self.weight:g}")

    @classmethod
    def parse(cls, text: str) -> DataSource:
        """``PATH[,photos=FOLDER][,weight=W]``. Raises ``ConfigError``."""
        path, *rest = _OPTION.split(text)
        options = dict(zip(rest[::2], rest[1::2], strict=True))
        if len(options) < len(rest) / 2:
            raise ConfigError(f"{text!r:.100}: names an option twice")
        try:
            weight = float(options.get("weight", 1))
        except ValueError:
            raise ConfigError(f"{path}: weight must be a number, not {options['weight']!r:.60}") from None
        return cls(Path(path), Path(options["photos"]) if "photos" in options else None, weight)

    @classmethod
    def from_toml(cls, document: Any) -> DataSource:
        """A path, or a table with ``path``, ``photos`` and ``weight``. Raises ``ConfigError``."""
        if isinstance(document, str):
            return cls(Path(document))
        if not isinstance(document, Mapping) or not {"path"} <= document.keys() <= {"path", "photos", "weight"}:
            raise ConfigError("training configuration: each of data must be a path, or have path, photos and weight")
        path, photos, weight = document["path"], document.get("photos"), document.get("weight", 1.0)
        if not isinstance(path, str) or not isinstance(photos, str | None) or type(weight) not in (int, float):
            raise ConfigError("training configuration: of data, path and photos must be text, and weight a number")
        return cls(Path(path), None if photos is None else Path(photos), float(weight))


@dataclass(frozen=True)
class Part:
    """One of the datasets, by a name that no other has."""

    name: str
    dataset: CaptionDataset
    weight: float = 1.0


@dataclass(frozen=True)
class Mixture:
    """Datasets side by side, in the order in which they were named."""

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, dataset: CaptionDataset) -> Mixture:
        """A single one."""
        return cls((Part(dataset.name, dataset),))

    @property
    def name(self) -> str:
        """Of all of them, with commas."""
        return ", ".join(part.name for part in self.parts)

    @property
    def source(self) -> Path:
        """The captions file of the first."""
        return self.parts[0].dataset.source

    def split(self, name: str) -> tuple[CaptionedPhoto, ...]:
        """The photos of a split that can be read, of all datasets that have it; ids are the dataset's name and theirs.

        Of a single dataset ids are as they are. Raises ``DataError`` where none has the split.
        """
        having = [part for part in self.parts if part.dataset.splits.get(name)] or self.parts[:1]
        return tuple(chain.from_iterable(self._named(part, part.dataset.split(name)) for part in having))

    def listed(self, name: str) -> tuple[CaptionedPhoto, ...]:
        """The photos of a split as the files have them, none where no dataset has it."""
        return tuple(chain.from_iterable(self._named(part, part.dataset.splits.get(name, ())) for part in self.parts))

    def _named(self, part: Part, photos: Sequence[CaptionedPhoto]) -> Iterator[CaptionedPhoto]:
        for photo in photos:
            own = photo.id if len(self.parts) == 1 else f"{part.name}/{photo.id}"
            yield replace(photo, id=own, dataset=part.name)

    def without(self, split: str) -> list[str]:
        """The datasets that lack a split, by name."""
        return [part.name for part in self.parts if not part.dataset.splits.get(split)]

    def weighted(self, photos: Sequence[CaptionedPhoto]) -> tuple[tuple[int, float], ...]:
        """Of train photos as :meth:`split` gives them: how many each dataset has, and its weight."""
        counts = Counter(photo.dataset for photo in photos)
        return tuple((counts[part.name], part.weight) for part in self.parts if counts[part.name])

    def described(self, photos: Sequence[CaptionedPhoto]) -> str:
        """The same in words: ``flickr8k (5,999 photos), coco (37,864 photos, weight 0.5)``."""
        counts = Counter(photo.dataset for photo in photos)
        weights = {part.name: "" if part.weight == 1 else f", weight {part.weight:g}" for part in self.parts}
        return ", ".join(f"{name} ({counted(counts[name], 'photo')}{weight})" for name, weight in weights.items())

    def check_held_out(self) -> None:
        """Raise ``DataError`` for a photo of train and of val, of another dataset by the same name and bytes."""
        for part in self.parts:
            part.dataset.check_held_out()
        if len(self.parts) == 1:
            return
        # Doubles have one size; by the name they are found without reading every file.
        val = {(path.name, size): (part, path) for part, path, size in self._files("val")}
        for part, path, size in self._files("train"):
            other, double = val.get((path.name, size), (part, path))
            if other is not part and path.read_bytes() == double.read_bytes():
                raise DataError(path, f"is in train of {part.name} and, as {double}, in val of {other.name}")

    def _files(self, split: str) -> Iterator[tuple[Part, Path, int]]:
        for part in self.parts:
            for photo in part.dataset.splits.get(split, ()):
                if photo.path.is_file():
                    yield part, photo.path, photo.path.stat().st_size


def load_mixture(
    sources: Sequence[DataSource], *, strict: bool = False, say: Callable[[str], None] = to_stderr
) -> Mixture:
    """Read datasets as :func:`~edgecap.data.karpathy.load_dataset` does. Raises ``DataError``."""
    parts: list[Part] = []
    for source in sources:
        dataset = load_dataset(source.data, source.photos, strict=strict, say=say)
        if same := next((part for part in parts if part.dataset.source.samefile(dataset.source)), None):
            raise DataError(dataset.source, f"is named twice: give it a weight of {same.weight + source.weight:g} once")
        parts.append(Part(_new_name(dataset.name, [part.name for part in parts]), dataset, source.weight))
    return Mixture(tuple(parts))


def _new_name(name: str, taken: Sequence[str]) -> str:
    """``name``, or with the lowest number behind it that makes it one that is not taken."""
    number = 2
    new = name
    while new in taken:
        new, number = f"{name}-{number}", number + 1
    return new


def drawn(parts: Sequence[tuple[int, float]]) -> int:
    """How many photos an epoch has of datasets with so many photos and such weights."""
    return sum(math.floor(count * weight + 0.5) for count, weight in parts)
