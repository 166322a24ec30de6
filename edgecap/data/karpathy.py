"""Caption datasets in Karpathy's JSON format: Flickr8k, Flickr30k and COCO share it.

Karpathy and Fei-Fei 2015 (arXiv:1412.2306). The document has ``images``, each with ``filename``, ``split`` and
``sentences``, each of these with ``tokens`` (and ``filepath``, a subfolder, in COCO's).
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecap.errors import DataError
from edgecap.runtime.vocabulary import SPECIAL_TOKENS, Vocabulary


@dataclass(frozen=True)
class CaptionedPhoto:
    """One photo of a dataset and the tokens of each of its captions."""

    id: str  # the file name, with COCO's subfolder
    path: Path
    captions: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class CaptionDataset:
    """A captions file and its photo folder, by split."""

    name: str
    source: Path
    splits: dict[str, tuple[CaptionedPhoto, ...]]

    def split(self, name: str) -> tuple[CaptionedPhoto, ...]:
        """The photos of a split, each checked to exist. Raises ``DataError`` naming what is missing."""
        photos = self.splits.get(name)
        if not photos:
            present = ", ".join(sorted(self.splits)) or "none"
            raise DataError(self.source, f"no photos in split {name!r} (splits present: {present})")
        missing = [photo.path for photo in photos if not photo.path.is_file()]
        if missing:
            others = f" and {len(missing) - 1:,} more of split {name!r}" if len(missing) > 1 else ""
            raise DataError(self.source, f"photo {missing[0]} is missing{others}")
        return photos


def find_dataset(data: Path, photos: Path | None = None) -> tuple[Path, Path]:
    """Captions file and photo folder of ``data``: a JSON file, or a folder with one ``dataset*.json``.

    The photos are in ``photos``, else in ``images/`` beside the JSON file. Raises ``DataError``.
    """
    source = data
    if data.is_dir():
        found = sorted(data.glob("dataset*.json"))
        if len(found) != 1:
            raise DataError(data, f"{len(found)} files match dataset*.json there: name the captions file itself")
        source = found[0]
    elif not data.is_file():
        raise DataError(data, "no such captions file or dataset folder")
    folder = photos if photos is not None else source.parent / "images"
    if not folder.is_dir():
        raise DataError(folder, "no such photo folder: name it with --photos")
    return source, folder


def load_dataset(data: Path, photos: Path | None = None) -> CaptionDataset:
    """Read a dataset. Raises ``DataError`` naming the file, the photo and the caption that is broken."""
    source, folder = find_dataset(data, photos)
    try:
        document = json.loads(source.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(source, f"is not readable JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise DataError(source, "is not in Karpathy's format: no list 'images'")
    splits: dict[str, list[CaptionedPhoto]] = {}
    for position, image in enumerate(document["images"]):
        split, photo = _photo(source, folder, position, image)
        splits.setdefault(split, []).append(photo)
    name = document.get("dataset")
    return CaptionDataset(
        name=name if isinstance(name, str) else source.stem,
        source=source,
        splits={split: tuple(members) for split, members in splits.items()},
    )


def _photo(source: Path, folder: Path, position: int, image: Any) -> tuple[str, CaptionedPhoto]:
    try:
        filename, split, sentences = image["filename"], image["split"], image["sentences"]
        subfolder = image.get("filepath", "")
    except (KeyError, TypeError, AttributeError):
        raise DataError(source, f"images[{position}] lacks 'filename', 'split' or 'sentences'") from None
    if not isinstance(filename, str) or not filename or not isinstance(split, str) or not isinstance(subfolder, str):
        raise DataError(source, f"images[{position}]: 'filename', 'filepath' and 'split' must be text")
    if not isinstance(sentences, list) or not sentences:
        raise DataError(source, f"photo {filename} has no captions")
    # COCO's restval is part of train in Karpathy's split.
    split = "train" if split == "restval" else split
    photo_id = f"{subfolder}/{filename}" if subfolder else filename
    captions = tuple(_tokens(source, filename, number, sentence) for number, sentence in enumerate(sentences))
    return split, CaptionedPhoto(photo_id, folder / subfolder / filename, captions)


def _tokens(source: Path, filename: str, number: int, sentence: Any) -> tuple[str, ...]:
    tokens = sentence.get("tokens") if isinstance(sentence, dict) else None
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) and token for token in tokens):
        raise DataError(source, f"caption {number} of photo {filename} has no list of words 'tokens'")
    return tuple(tokens)


def build_vocabulary(photos: tuple[CaptionedPhoto, ...], min_count: int) -> Vocabulary:
    """Words that occur ``min_count`` times or more in the captions, the frequent first, then by alphabet."""
    counts = Counter(token for photo in photos for caption in photo.captions for token in caption)
    kept = [word for word, count in counts.items() if count >= min_count and word not in SPECIAL_TOKENS]
    return Vocabulary((*SPECIAL_TOKENS, *sorted(kept, key=lambda word: (-counts[word], word))))
