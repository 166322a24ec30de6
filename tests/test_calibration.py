"""The photos that an export calibrates on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exported import BOTH
from tiny_dataset import write_photos, write_tiny_dataset

from edgecap.data.karpathy import load_dataset
from edgecap.errors import DataError
from edgecap.export.calibration import CalibrationSet, from_dataset, from_folder
from edgecap.model.checkpoint import load_checkpoint
from edgecap.model.preprocessing import preprocess_config
from edgecap.runtime.preprocess import to_tensor


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data") / "tiny", train=30, val=4)


def test_calibration_photos_are_drawn_once_and_for_all(photos: Path, data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    (folder / "notes.txt").write_text("no photo")
    recipe = replace(BOTH, calibration_photos=17)
    drawn = from_folder(folder, recipe)
    assert len(set(drawn.ids)) == 17 and drawn.ids == from_folder(photos, recipe).ids
    assert all(path == folder / name for path, name in zip(drawn.paths, drawn.ids, strict=True))
    assert from_folder(folder, replace(recipe, calibration_seed=1)).ids != drawn.ids
    from_train = from_dataset(load_dataset(data), recipe)
    assert from_train.source == "tiny" and len(from_train.ids) == 17
    assert all((data / "images" / name).is_file() and int(name[:3]) < 30 for name in from_train.ids)


def test_too_few_photos_to_calibrate_on(photos: Path, tmp_path: Path) -> None:
    few = write_photos(tmp_path / "few", 15)
    with pytest.raises(DataError, match=r"few: 15 photos to calibrate on; at least 16 are needed"):
        from_folder(few, BOTH).require_enough()
    with pytest.raises(DataError, match=r"nowhere: no such folder of calibration photos"):
        from_folder(tmp_path / "nowhere", BOTH)
    with pytest.raises(DataError, match="15 photos to calibrate on"):
        from_dataset(load_dataset(write_tiny_dataset(tmp_path / "tiny", train=15, val=1)), BOTH).require_enough()
    with pytest.raises(DataError, match="3 photos to calibrate on"):
        from_folder(photos, replace(BOTH, calibration_photos=3)).require_enough()


def test_a_calibration_set_gives_its_photos_one_by_one(photos: Path, checkpoint: Path) -> None:
    preprocess = preprocess_config(load_checkpoint(checkpoint).dims)
    some = CalibrationSet("photos", ("000.jpg", "001.jpg"), (photos / "000.jpg", photos / "001.jpg"))
    tensors = list(some.tensors(preprocess))
    assert [tensor.shape for tensor in tensors] == [(1, 3, 64, 64)] * 2
    np.testing.assert_array_equal(tensors[1], to_tensor(photos / "001.jpg", preprocess))
