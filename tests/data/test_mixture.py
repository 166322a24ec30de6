"""Several datasets side by side: named, weighted, and never one's photo for another's."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_dataset import draw_photo, write_tiny_dataset

from edgecap.data.mixture import DataSource, Mixture, drawn, load_mixture
from edgecap.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("coco/", DataSource(Path("coco"))),
        ("a,b/", DataSource(Path("a,b"))),
        ("coco/,weight=0.5", DataSource(Path("coco"), None, 0.5)),
        ("x.json,photos=my photos/,weight=2", DataSource(Path("x.json"), Path("my photos"), 2.0)),
        ("x.json,weight=2,photos=p", DataSource(Path("x.json"), Path("p"), 2.0)),
    ],
)
def test_a_dataset_on_the_command_line(text: str, source: DataSource) -> None:
    assert DataSource.parse(text) == source


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "101", "much", ""])
def test_a_weight_that_is_none_is_refused(weight: str) -> None:
    with pytest.raises(ConfigError, match=r"^coco: weight must be"):
        DataSource.parse(f"coco,weight={weight}")


def test_an_option_is_named_once() -> None:
    with pytest.raises(ConfigError, match="names an option twice"):
        DataSource.parse("coco,weight=1,weight=2")


@pytest.mark.parametrize(
    ("document", "source"),
    [
        ("coco/", DataSource(Path("coco"))),
        ({"path": "coco", "weight": 2}, DataSource(Path("coco"), None, 2.0)),
        ({"path": "coco", "photos": "p"}, DataSource(Path("coco"), Path("p"))),
    ],
)
def test_a_dataset_in_a_file(document: object, source: DataSource) -> None:
    assert DataSource.from_toml(document) == source


@pytest.mark.parametrize("document", [1, [], {}, {"path": 1}, {"path": "x", "weight": "2"}, {"path": "x", "wieght": 2}])
def test_what_is_no_dataset_in_a_file_is_refused(document: object) -> None:
    with pytest.raises(ConfigError, match="of data"):
        DataSource.from_toml(document)


@pytest.fixture
def two(tmp_path: Path) -> list[DataSource]:
    """Two datasets of one title and with the same file names, whose photos are others."""
    one, other = (write_tiny_dataset(tmp_path / name, train=4, val=2) for name in ("one", "other"))
    for number in range(6):
        draw_photo(number + 10).save(other / "images" / f"{number:03}.jpg", quality=92)
    return [DataSource(one), DataSource(other, weight=0.5)]


def mixture(sources: list[DataSource]) -> Mixture:
    return load_mixture(sources, say=lambda line: None)


def test_photos_of_the_same_name_stay_apart(two: list[DataSource]) -> None:
    mixed = mixture(two)
    photos = mixed.split("train")
    assert [photo.id for photo in photos] == [f"{name}/{n:03}.jpg" for name in ("tiny", "tiny-2") for n in range(4)]
    assert [photo.path.parent.parent.name for photo in photos] == ["one"] * 4 + ["other"] * 4
    assert [photo.dataset for photo in mixed.split("val")] == ["tiny", "tiny", "tiny-2", "tiny-2"]
    assert mixed.weighted(photos) == ((4, 1.0), (4, 0.5))
    assert mixed.described(photos) == "tiny (4 photos), tiny-2 (4 photos, weight 0.5)"
    mixed.check_held_out()


def test_one_dataset_is_as_it_is(two: list[DataSource]) -> None:
    assert [photo.id for photo in mixture(two[:1]).split("val")] == ["004.jpg", "005.jpg"]


def test_a_dataset_is_named_once(two: list[DataSource]) -> None:
    with pytest.raises(DataError, match=r"dataset_tiny\.json: is named twice: give it a weight of 1\.5 once"):
        mixture([two[0], DataSource(two[0].data / "dataset_tiny.json", weight=0.5)])


def test_a_photo_of_one_ones_train_is_not_in_another_ones_val(two: list[DataSource]) -> None:
    learnt, held = two[1].data / "images" / "000.jpg", two[0].data / "images" / "004.jpg"
    source = two[1].data / "dataset_tiny.json"
    source.write_text(source.read_text().replace('"000.jpg"', '"004x.jpg"').replace('"004.jpg"', '"000.jpg"'))
    source.write_text(source.read_text().replace('"004x.jpg"', '"004.jpg"'))
    mixture(two).check_held_out()  # of the same name, but another photo
    (learnt.parent / "004.jpg").write_bytes(held.read_bytes())
    with pytest.raises(DataError, match=r"004\.jpg: is in train of tiny-2 and, as .*004\.jpg, in val of tiny"):
        mixture(two).check_held_out()


def test_a_dataset_without_val_is_known(two: list[DataSource]) -> None:
    source = two[1].data / "dataset_tiny.json"
    document = json.loads(source.read_text())
    document["images"] = [image for image in document["images"] if image["split"] == "train"]
    source.write_text(json.dumps(document))
    mixed = mixture(two)
    assert mixed.without("val") == ["tiny-2"] and {photo.dataset for photo in mixed.split("val")} == {"tiny"}
    with pytest.raises(DataError, match=r"no photos in split 'test'"):
        mixed.split("test")


@given(st.lists(st.tuples(st.integers(1, 100), st.floats(0.01, 5)), min_size=1, max_size=4))
def test_an_epoch_has_its_share_of_each(parts: list[tuple[int, float]]) -> None:
    assert math.isclose(drawn(parts), sum(count * weight for count, weight in parts), abs_tol=len(parts) / 2 + 1e-9)
    assert drawn([(count, 1.0) for count, _ in parts]) == sum(count for count, _ in parts)
