"""The photos that an export calibrates on."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import edgecap_here
from exported import EVERYTHING, contents, document, hurry
from tiny_dataset import write_photos, write_tiny_dataset

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.architectures.defaults import preprocess_config
from edgecap.data.karpathy import CaptionDataset, load_dataset
from edgecap.data.mixture import Mixture
from edgecap.errors import DataError
from edgecap.export.compress.calibration import CalibrationSet, from_datasets, from_folder
from edgecap.runtime.photo.preprocess import to_tensor

pytestmark = pytest.mark.usefixtures("one_torch_thread")

IDS = tuple(f"{number:03}.jpg" for number in range(16))  # of the train split
INT8 = ("--onnx", "--int8", "--no-evaluate")


@pytest.fixture(scope="module")
def larger_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data") / "tiny", train=30, val=4)


def test_calibration_photos_are_drawn_once_and_for_all(photos: Path, larger_data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    (folder / "notes.txt").write_text("no photo")
    recipe = replace(EVERYTHING, calibration_photos=17)
    drawn = from_folder(folder, recipe)
    assert len(set(drawn.ids)) == 17 and drawn.ids == from_folder(photos, recipe).ids
    assert all(path == folder / name for path, name in zip(drawn.paths, drawn.ids, strict=True))
    assert from_folder(folder, replace(recipe, calibration_seed=1)).ids != drawn.ids
    from_train = from_datasets(Mixture.of(load_dataset(larger_data)), recipe)
    assert from_train.source == "tiny" and len(from_train.ids) == 17
    assert all((larger_data / "images" / name).is_file() and int(name[:3]) < 30 for name in from_train.ids)


def test_too_few_photos_to_calibrate_on(photos: Path, tmp_path: Path) -> None:
    few = write_photos(tmp_path / "few", 15)
    with pytest.raises(DataError, match=r"few: 15 photos to calibrate on; at least 16 are needed"):
        from_folder(few, EVERYTHING).require_enough()
    with pytest.raises(DataError, match=r"nowhere: no such folder of calibration photos"):
        from_folder(tmp_path / "nowhere", EVERYTHING)
    with pytest.raises(DataError, match="15 photos to calibrate on"):
        few = Mixture.of(load_dataset(write_tiny_dataset(tmp_path / "tiny", train=15, val=1)))
        from_datasets(few, EVERYTHING).require_enough()
    with pytest.raises(DataError, match="3 photos to calibrate on"):
        from_folder(photos, replace(EVERYTHING, calibration_photos=3)).require_enough()


def test_a_calibration_set_gives_its_photos_one_by_one_and_in_batches(photos: Path, checkpoint: Path) -> None:
    preprocess = preprocess_config(load_checkpoint(checkpoint).dims)
    some = CalibrationSet("photos", IDS[:5], tuple(photos / name for name in IDS[:5]))
    tensors = list(some.tensors(preprocess))
    assert [tensor.shape for tensor in tensors] == [(1, 3, 64, 64)] * 5
    np.testing.assert_array_equal(tensors[1], to_tensor(photos / "001.jpg", preprocess))
    batches = list(some.batches(preprocess, 2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(batches), np.concatenate(tensors))
    assert some.first(2) == CalibrationSet("photos", IDS[:2], (photos / IDS[0], photos / IDS[1]))


def test_photos_may_be_named_by_their_ids(checkpoint: Path, data: Path, tmp_path: Path, graphs_at_hand: None) -> None:
    def calibrated_on(*calibration: object) -> list[str]:
        made = tmp_path / "bundle"
        code, _, err = edgecap_here("export", checkpoint, "-o", made, *INT8, "--data", data, *calibration)
        assert code == 0, err
        found = document(made, "calibration.json")
        assert found["source"] == "tiny"
        return list(found["photos"])

    by_train = calibrated_on()
    assert sorted(by_train) == list(IDS) and by_train != list(IDS)
    former = shutil.copy(tmp_path / "bundle" / "calibration.json", tmp_path)
    assert calibrated_on("--calibration", former) == by_train  # in its order
    (tmp_path / "ids.txt").write_text("\n".join((*reversed(IDS), "", "  ")))
    assert calibrated_on("--calibration", tmp_path / "ids.txt") == list(reversed(IDS))
    # A list with commas is soon longer than any file name can be; a photo counts once.
    assert calibrated_on("--calibration", ", ".join(IDS * 3)) == list(IDS)


def test_a_folder_of_photos_comes_before_those_of_the_dataset(
    checkpoint: Path, data: Path, photos: Path, tmp_path: Path, graphs_at_hand: None
) -> None:
    arguments = ("export", checkpoint, "-o", tmp_path / "bundle", *INT8, "--data", data, "--calibration", photos)
    assert edgecap_here(*arguments)[0] == 0
    found = document(tmp_path / "bundle", "calibration.json")
    assert (found["source"], len(found["photos"])) == ("calibration", 20)


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        ((*IDS, "999.jpg"), r".*/dataset_tiny\.json: has no photo '999\.jpg' to calibrate on"),
        ((*IDS, "017.jpg"), r".*/dataset_tiny\.json: photo '017\.jpg' is of val, which measures the captions"),
        (IDS[:3] * 9, r"tiny: 3 photos to calibrate on; at least 16 are needed"),
        (("nowhere/ids.txt",), r".*/dataset_tiny\.json: has no photo 'nowhere/ids\.txt' to calibrate on"),
    ],
)
def test_ids_that_cannot_be_used_are_named(
    checkpoint: Path, data: Path, old: Path, ids: tuple[str, ...], problem: str
) -> None:
    before = contents(old)
    arguments = ("export", checkpoint, "-o", old, *INT8, "--data", data, "--calibration", ",".join(ids))
    code, out, (line,) = edgecap_here(*arguments)
    assert (code, out) == (1, []) and re.match(f"edgecap: {problem}", line)
    assert contents(old) == before and [path.name for path in old.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("list.txt", b"\xff\xfe", "is no list of photo ids: 'utf-8' codec can't decode"),
        ("list.json", b'{"photos": "all"}', "is no list of photo ids: list.json.photos must be a list, not str"),
        ("list.json", b'{"photos": [1]}', "is no list of photo ids: list.json.photos[0] must be a string, not 1"),
        ("list.json", b'{"ids": []}', "is no list of photo ids: list.json lacks 'photos'"),
        ("list.json", b'{"photos": ["000.j', "is no list of photo ids: Unterminated string"),
        ("list.json", b"[" * 100_000, "is no list of photo ids: maximum recursion depth exceeded"),
    ],
)
def test_a_file_that_is_no_list_of_ids_is_named(
    checkpoint: Path, data: Path, old: Path, tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    before = contents(old)
    (tmp_path / name).write_bytes(content)
    arguments = ("export", checkpoint, "-o", old, *INT8, "--data", data, "--calibration", tmp_path / name)
    code, out, (line,) = edgecap_here(*arguments)
    assert (code, out) == (1, []) and line.startswith(f"edgecap: {tmp_path / name}: {problem}")
    assert contents(old) == before and [path.name for path in old.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("given", ["nowhere", ",".join(IDS * 3)])
def test_without_a_dataset_the_photos_must_be_a_folder(checkpoint: Path, old: Path, given: str) -> None:
    before = contents(old)
    code, out, err = edgecap_here("export", checkpoint, "-o", old, *INT8, "--calibration", given)
    problem = "no such folder of calibration photos; photos by their ids need --data"
    assert (code, out, err) == (1, [], [f"edgecap: {given}: {problem}"])
    assert contents(old) == before


def test_an_unreadable_calibration_photo_is_left_out(
    checkpoint: Path, photos: Path, bundle: Path, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(bundle, monkeypatch)
    broken = Path(shutil.copytree(photos, tmp_path / "broken"))
    (broken / "011.jpg").write_bytes((photos / "011.jpg").read_bytes()[:300])
    code, out, err = edgecap_here("export", checkpoint, "-o", old, *INT8, "--calibration", broken)
    assert code == 0 and len(out) == 1
    assert err[0].startswith(f"{broken}: photo {broken / '011.jpg'} is truncated or damaged")
    assert err[1] == f"{broken}: 1 photo is left out (--strict refuses them)"
    assert "011.jpg" not in document(old, "calibration.json")["photos"]


def test_an_unreadable_photo_of_val_is_left_out_or_refused(
    checkpoint: Path, dataset: CaptionDataset, data: Path, old: Path, tmp_path: Path, graphs_at_hand: None
) -> None:
    own = Path(shutil.copytree(data, tmp_path / "own"))
    (own / "images" / "018.jpg").write_bytes(b"no photo")
    before, arguments = contents(old), ("export", checkpoint, "-o", old, "--onnx", "--data", own)
    code, out, err = edgecap_here(*arguments, "--strict")
    problem = f"{own / 'dataset_tiny.json'}: photo {own / 'images' / '018.jpg'} is not a photo that Pillow can read"
    assert (code, out, err) == (1, [], [f"edgecap: {problem}"])
    assert contents(old) == before and [path.name for path in old.parent.iterdir()] == ["bundle"]
    code, out, err = edgecap_here(*arguments)
    assert code == 0 and f"edgecap: {problem}: left out" in err
    assert any(line.startswith("captions of 3 val photos") for line in err)


def test_a_dataset_that_lacks_val_or_a_photo_of_it_is_refused_before_anything_is_made(
    checkpoint: Path, data: Path, old: Path, tmp_path: Path
) -> None:
    before = contents(old)
    own = Path(shutil.copytree(data, tmp_path / "own"))
    (own / "images" / "018.jpg").unlink()
    no_val = write_tiny_dataset(tmp_path / "none", train=16, val=0)
    for folder, problem in (
        (own, f"photo {own / 'images' / '018.jpg'} is missing"),
        (no_val, "no photos in split 'val'"),
    ):
        code, out, err = edgecap_here("export", checkpoint, "-o", old, "--onnx", "--data", folder, "--strict")
        assert (code, out, len(err)) == (1, [], 1)
        assert err[0].startswith(f"edgecap: {folder / 'dataset_tiny.json'}: {problem}")
        assert contents(old) == before and [path.name for path in old.parent.iterdir()] == ["bundle"]
