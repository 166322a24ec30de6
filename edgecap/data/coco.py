"""Captions as COCO has them (``captions_train2017.json``): photos and captions apart, one file a split.

Lin et al. 2014 (arXiv:1405.0312). The document has ``images``, each with ``id`` and ``file_name``, and ``annotations``,
each with ``image_id`` and ``caption``. It becomes one in Karpathy's format, whose captions are text without tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgecap.data.omissions import CAPTION, PHOTO, Omissions
from edgecap.errors import DataError

SPLITS = ("train", "val", "test")
EVERY = 10  # photos of which one is val's, in a file that tells no splits

_SPLIT = re.compile(r"(train|val|test)(\d*)")


def is_coco(document: Any) -> bool:
    """Whether a document is in this format, and not in Karpathy's."""
    return isinstance(document, dict) and all(
        isinstance(document.get(name), list) for name in ("images", "annotations")
    )


def other_splits(source: Path) -> list[Path]:
    """The files beside ``captions_train2017.json`` that are named as it is, but for another split."""
    found = _SPLIT.search(source.stem)
    if found is None:
        return []
    start, end = found.span(1)
    names = [f"{source.stem[:start]}{split}{source.stem[end:]}{source.suffix}" for split in SPLITS]
    return [path for name in names if (path := source.with_name(name)) != source and path.is_file()]


def karpathy_images(document: Mapping[str, Any], source: Path, folder: Path, omissions: Omissions) -> list[Any]:
    """The ``images`` of the same data in Karpathy's format. Raises ``DataError`` for two photos of one id.

    Photos are in ``folder``, or in its folder ``train2017`` where the file is named so.
    """
    images = _images(document["images"], source, omissions)
    for position, annotation in enumerate(document["annotations"]):
        problem = _problem(annotation, images)
        if problem:
            omissions.leave_out(CAPTION, f"annotations[{position}]", problem)
        else:
            images[annotation["image_id"]]["sentences"].append(annotation["caption"])
    named = _SPLIT.search(source.stem)
    subfolder = named[0] if named and (folder / named[0]).is_dir() else ""
    found = []
    for image in images.values():
        split = image["split"] or (named[1] if named else _split_of(image["filename"]))
        found.append({**image, "split": split, "filepath": subfolder})
    return _divided(found, omissions)


def _images(images: list[Any], source: Path, omissions: Omissions) -> dict[int | str, dict[str, Any]]:
    """By id, each with room for its captions."""
    found: dict[int | str, dict[str, Any]] = {}
    for position, image in enumerate(images):
        if not isinstance(image, dict) or type(image.get("id")) not in (int, str) or "file_name" not in image:
            omissions.leave_out(PHOTO, f"images[{position}]", "lacks 'id' or 'file_name'")
        elif image["id"] in found and found[image["id"]]["filename"] != image["file_name"]:
            raise DataError(source, f"two photos have the id {image['id']!r:.60}")
        else:
            found[image["id"]] = {"filename": image["file_name"], "split": image.get("split"), "sentences": []}
    return found


def _problem(annotation: Any, images: Mapping[int | str, Any]) -> str | None:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("caption"), str):
        return "has no text 'caption'"
    photo = annotation.get("image_id")
    if type(photo) not in (int, str) or photo not in images:
        return f"is of the photo {photo!r:.60}, which 'images' does not hold"
    return None


def _split_of(filename: Any) -> str | None:
    """``COCO_val2014_000000000042.jpg`` is of val."""
    found = _SPLIT.search(filename) if isinstance(filename, str) else None
    return found[1] if found and found[2] else None


def _divided(images: list[dict[str, Any]], omissions: Omissions) -> list[dict[str, Any]]:
    """The same, all with a split: where neither file nor photo tells one, every tenth of those is val's."""
    without = [image for image in images if image["split"] is None]
    for position, image in enumerate(without):
        image["split"] = (
            "val" if position % EVERY == EVERY - 1 or (len(without) < EVERY and image is without[-1]) else "train"
        )
    if without:
        omissions.note(f"tells no splits (as captions_train.json does by its name): every {EVERY}th photo is of val")
    return images
