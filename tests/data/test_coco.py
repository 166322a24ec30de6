"""COCO's own annotation files, as they are unpacked: photos and captions apart, a file for each split."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_dataset import captions_of, draw_photo

from edgecap.data.karpathy import load_dataset
from edgecap.errors import DataError

Document = dict[str, list[dict[str, Any]]]


def coco_document(numbers: range, name: str = "{:012}.jpg") -> Document:
    """Photos of the tiny dataset, and their captions as sentences."""
    return {
        "images": [{"id": number, "file_name": name.format(number), "width": 64, "height": 64} for number in numbers],
        "annotations": [
            {"id": 10 * number + rank, "image_id": number, "caption": f"{' '.join(words).capitalize()}. "}
            for number in numbers
            for rank, words in enumerate(captions_of(number))
        ],
    }


def write(folder: Path, numbers: range, name: str = "{:012}.jpg") -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        draw_photo(number).save(folder / name.format(number))


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """``annotations/``, ``train2017/`` and ``val2017/`` as COCO's archives leave them."""
    annotations = tmp_path / "coco" / "annotations"
    annotations.mkdir(parents=True)
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        write(tmp_path / "coco" / f"{split}2017", numbers)
        (annotations / f"captions_{split}2017.json").write_text(json.dumps(coco_document(numbers)))
    return tmp_path / "coco"


@pytest.mark.parametrize("data", [".", "annotations", "annotations/captions_val2017.json"])
def test_the_archives_as_they_are_unpacked(coco: Path, data: str) -> None:
    dataset = load_dataset(coco / data, strict=True, say=lambda line: None)
    train, val = dataset.split("train"), dataset.split("val")
    assert (len(train), len(val)) == (4, 2) and set(dataset.splits) == {"train", "val"}
    assert val[0].id == "val2017/000000000004.jpg" and val[0].path == coco / "val2017" / "000000000004.jpg"
    assert [list(words) for words in val[0].captions] == captions_of(4)


def test_one_file_whose_photos_lie_in_one_folder(coco: Path) -> None:
    source = coco / "annotations" / "captions_val2017.json"
    (coco / "annotations" / "captions_train2017.json").unlink()
    said: list[str] = []
    dataset = load_dataset(source, coco / "val2017", say=said.append)
    assert set(dataset.splits) == {"val"} and dataset.split("val")[0].id == "000000000004.jpg"
    assert said == [f"{source}: 10 captions without tokens: split into words"]


def test_splits_by_the_photos_names_or_by_every_tenth(tmp_path: Path) -> None:
    name, said = "COCO_val2014_{:012}.jpg", list[str]()
    write(tmp_path / "images", range(3), name)
    source = tmp_path / "dataset_mine.json"
    source.write_text(json.dumps(coco_document(range(3), name)))
    assert {split: len(photos) for split, photos in load_dataset(tmp_path, say=said.append).splits.items()} == {
        "val": 3
    }
    source.write_text(json.dumps(coco_document(range(25))))
    dataset = load_dataset(source, say=said.append)
    assert [photo.id for photo in dataset.splits["val"]] == ["000000000009.jpg", "000000000019.jpg"]
    assert len(dataset.splits["train"]) == 23 and any("tells no splits" in line for line in said)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda document: document["annotations"].append({"image_id": 4}), "annotations[10] has no text 'caption'"),
        (lambda document: document["annotations"].append([]), "annotations[10] has no text 'caption'"),
        (
            lambda document: document["annotations"].append({"image_id": 99, "caption": "a dog"}),
            "annotations[10] is of the photo 99, which 'images' does not hold",
        ),
        (
            lambda document: document["annotations"].append({"image_id": [4], "caption": "a dog"}),
            "annotations[10] is of the photo [4], which",
        ),
        (
            lambda document: document["annotations"].append({"image_id": 4, "caption": "\n"}),
            "caption 5 of photo val2017/000000000004.jpg has no words",
        ),
        (
            lambda document: document["images"].append({"id": 9, "file_name": "9.jpg"}),
            "photo val2017/9.jpg has no captions that can be used",
        ),
        (lambda document: document["images"].append({"id": 9}), "images[2] lacks 'id' or 'file_name'"),
        (lambda document: document["images"].append({"id": {}, "file_name": "x"}), "images[2] lacks 'id' or"),
        (lambda document: document["images"].append({"id": 9, "file_name": 9}), "] has a 'filename', "),
    ],
)
def test_what_cannot_be_used_is_left_out(coco: Path, change: Callable[[Document], object], problem: str) -> None:
    document = coco_document(range(4, 6))
    change(document)
    (coco / "annotations" / "captions_val2017.json").write_text(json.dumps(document))
    said: list[str] = []
    dataset = load_dataset(coco, say=said.append)
    assert len(dataset.split("val")) == 2 and any(problem in line for line in said)
    with pytest.raises(DataError) as caught:
        load_dataset(coco, strict=True)
    assert problem in str(caught.value)


def test_two_photos_of_one_id_and_names_that_lead_out_are_refused(coco: Path) -> None:
    source = coco / "annotations" / "captions_val2017.json"
    document = coco_document(range(4, 6))
    document["images"].append({"id": 4, "file_name": "other.jpg"})
    source.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"captions_val2017\.json: two photos have the id 4"):
        load_dataset(coco)
    document["images"][-1] = {"id": 7, "file_name": "../other.jpg"}
    source.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"photo 'val2017/\.\./other\.jpg' leads out of the photo folder"):
        load_dataset(coco)


def test_annotations_without_captions_are_refused(coco: Path) -> None:
    boxes = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1]}]}
    (coco / "annotations" / "instances_val.json").write_text(json.dumps(boxes))
    with pytest.raises(
        DataError, match=r"instances_val\.json: nothing in it can be used: annotations\[0\] has no text"
    ):
        load_dataset(coco / "annotations" / "instances_val.json", say=lambda line: None)
