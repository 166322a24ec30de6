"""Caption datasets in Karpathy's JSON format, which Flickr8k, Flickr30k and COCO share, or in COCO's own.

Karpathy and Fei-Fei 2015 (arXiv:1412.2306). The document has ``images``, each with ``filename``, ``split`` and
``sentences``, each of these with ``tokens`` or ``raw`` (and ``filepath``, a subfolder, in COCO's).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecap.data.coco import is_coco, karpathy_images, other_splits
from edgecap.data.karpathy_photo import SHOWN, EntryReader
from edgecap.data.omissions import PHOTO, Omissions, to_stderr
from edgecap.data.photo_check import photo_problems
from edgecap.errors import DataError, brief
from edgecap.runtime.bundle.regular_file import read_regular
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.runtime.wording import counted

MAX_BYTES = 2**30  # of a captions file; COCO's has 144 MB


@dataclass(frozen=True)
class CaptionedPhoto:
    """One photo of a dataset and the tokens of each of its captions."""

    id: str  # the file name, with COCO's subfolder
    path: Path
    captions: tuple[tuple[str, ...], ...]
    dataset: str = ""  # which of several it is from


@dataclass(frozen=True)
class CaptionDataset:
    """A captions file and its photo folder, by split."""

    name: str
    source: Path
    splits: dict[str, tuple[CaptionedPhoto, ...]]
    omissions: Omissions = field(compare=False, repr=False)
    _read: dict[str, tuple[CaptionedPhoto, ...]] = field(default_factory=dict, init=False, compare=False, repr=False)

    def split(self, name: str) -> tuple[CaptionedPhoto, ...]:
        """The photos of a split that can be read, all of which are tried once.

        The others are left out, named and counted, or with ``strict`` refused. Raises ``DataError`` where none is left.
        """
        if name not in self._read:
            self._read[name] = tuple(self.readable(self.listed(name)))
            self.omissions.report()
        if not self._read[name]:
            raise DataError(self.source, f"no photo of split {name!r} can be read: is the photo folder the right one?")
        return self._read[name]

    def listed(self, name: str) -> tuple[CaptionedPhoto, ...]:
        """The photos of a split as the file has them. Raises ``DataError`` for a split without any."""
        photos = self.splits.get(name)
        if not photos:
            present = ", ".join(sorted(self.splits)) or "none"
            raise DataError(self.source, f"no photos in split {name!r} (splits present: {present})")
        return photos

    def readable(self, photos: Sequence[CaptionedPhoto]) -> Iterator[CaptionedPhoto]:
        """Those that can be read; the others are left out."""
        for photo, problem in zip(photos, photo_problems(photo.path for photo in photos), strict=True):
            if problem is None:
                yield photo
            else:
                self.omissions.leave_out(PHOTO, f"photo {photo.path}", problem)

    def also_in_train(self, name: str) -> str | None:
        """Which photos of another split stand in train as well, in a line; ``None`` where none does."""
        train = {photo.id for photo in self.splits.get("train", ())}
        shared = [photo.id for photo in self.splits.get(name, ()) if photo.id in train]
        if name == "train" or not shared:
            return None
        others = f", and {len(shared) - 1:,} more" if shared[1:] else ""
        return f"photo {shared[0]:.{SHOWN}} is in train and in {name}{others}"

    def check_held_out(self) -> None:
        """Raise ``DataError`` for a photo of both train and val: what is learnt by heart would be measured."""
        if problem := self.also_in_train("val"):
            raise DataError(self.source, problem)


def find_dataset(data: Path, photos: Path | None = None) -> tuple[list[Path], Path]:
    """Captions files and photo folder of ``data``: a JSON file, or a folder with one ``dataset*.json``.

    Or with COCO's ``captions_*.json``, one for each split. The photos are in ``photos``, else in ``images/`` beside the
    file, or where COCO has them, beside its folder ``annotations``. Raises ``DataError``.
    """
    if data.is_dir():
        sources = sorted(data.glob("dataset*.json"))
        if not sources:
            sources = sorted(data.glob("captions_*.json")) or sorted(data.glob("annotations/captions_*.json"))
        elif len(sources) > 1:
            raise DataError(data, f"{len(sources)} files match dataset*.json there: name the captions file itself")
        if not sources:
            raise DataError(data, "neither dataset*.json nor captions_*.json is there: name the captions file itself")
    elif not data.exists():
        raise DataError(data, "no such captions file or dataset folder")
    else:
        sources = [data]
    beside = sources[0].parent
    folder = photos if photos is not None else beside / "images"
    if photos is None and not folder.is_dir() and beside.name == "annotations":
        folder = beside.parent / "images" if (beside.parent / "images").is_dir() else beside.parent
    if not folder.is_dir():
        raise DataError(folder, "no such photo folder: name it with --photos")
    return sources, folder


def load_dataset(
    data: Path, photos: Path | None = None, *, strict: bool = False, say: Callable[[str], None] = to_stderr
) -> CaptionDataset:
    """Read a dataset. A caption or photo that cannot be used is left out, and ``say`` is told which; with ``strict``
    it is a ``DataError``, as is, by its name, a file that is none, or a photo that leads out of its folder.
    """
    sources, folder = find_dataset(data, photos)
    source = sources[0]
    omissions = Omissions(source, strict=strict, say=say)
    first = _document(source)
    images = list(first["images"])
    if is_coco(first):
        files = sources if len(sources) > 1 else [source, *other_splits(source)]
        documents = [(file, first if file == source else _document(file)) for file in files]
        images = [
            image
            for file, document in documents
            if is_coco(document)
            for image in karpathy_images(document, file, folder, omissions)
        ]
    reader = EntryReader(source, omissions)
    splits: dict[str, dict[str, CaptionedPhoto]] = {}
    joined = 0
    for split, name, captions in reader.entries(images):
        members = splits.setdefault(split, {})
        if name in members:
            joined += 1
            captions = (*members[name].captions, *captions)
        members[name] = CaptionedPhoto(name, folder / name, captions)
    if not splits and omissions.counts:
        raise DataError(source, f"nothing in it can be used: {omissions.first}")
    if reader.tokenised:
        omissions.note(f"{counted(reader.tokenised, 'caption')} without tokens: split into words")
    if joined:
        omissions.note(f"{counted(joined, 'photo')} named again in the same split: all captions are kept")
    omissions.report()
    title = first.get("dataset")
    return CaptionDataset(
        name=title if isinstance(title, str) else source.stem,
        source=source,
        splits={split: tuple(members.values()) for split, members in splits.items()},
        omissions=omissions,
    )


def _document(source: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_regular(source, MAX_BYTES))
    except OSError as error:
        raise DataError(source, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise DataError(source, f"is not readable JSON: {brief(error)}") from error
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise DataError(source, "is neither in Karpathy's format nor in COCO's: no list 'images'")
    return document


def build_vocabulary(photos: Sequence[CaptionedPhoto], min_count: int, most: int | None = None) -> Vocabulary:
    """Words that occur ``min_count`` times or more in the captions, the frequent first, then by alphabet.

    With ``most`` that many tokens at most, special ones among them.
    """
    counts = Counter(token for photo in photos for caption in photo.captions for token in caption)
    kept = [word for word, count in counts.items() if count >= min_count and word not in SPECIAL_TOKENS]
    return Vocabulary((*SPECIAL_TOKENS, *sorted(kept, key=lambda word: (-counts[word], word)))[:most])
