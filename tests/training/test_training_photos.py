"""Where the pixels of photos come from: files and memory show the same, and a run may keep its photos in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_dataset import write_photos
from training_runs import PLAIN, log_rows

from edgecap.data.augmentation import WHOLE, Augmentation, Cut, random_cut
from edgecap.data.karpathy import CaptionDataset
from edgecap.errors import ConfigError, ImageError
from edgecap.runtime.photo.preprocess import PreprocessConfig, load_image
from edgecap.training.run import train_run
from edgecap.training.sources.photos import PhotoFiles, Photos, PhotosInMemory, _decoded, photos_for

pytestmark = pytest.mark.usefixtures("one_torch_thread")
CPU, CARD = torch.device("cpu"), torch.device("cuda")
PIXELS = PreprocessConfig((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # as shares of white
OTHERS = PreprocessConfig((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_photos(tmp_path_factory.mktemp("kept") / "photos", 5).iterdir())


@pytest.fixture(scope="module")
def memory(paths: list[Path]) -> PhotosInMemory:
    return PhotosInMemory(paths, OTHERS, CPU, 2)


@pytest.fixture(scope="module")
def smooth(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Photos without edges: slow waves of colours."""
    folder, (y, x) = tmp_path_factory.mktemp("smooth"), np.mgrid[0:240, 0:320] / 100
    for number in range(3):
        waves = [np.sin((1 + number) * x + channel) * np.cos(y * (1 + channel) / 2 + number) for channel in range(3)]
        pixels = (127 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def smooth_memory(smooth: list[Path]) -> PhotosInMemory:
    return PhotosInMemory(smooth, PIXELS, CPU, 1)


@pytest.mark.parametrize("preprocess", [PIXELS, OTHERS], ids=["pixels", "others"])
def test_whole_photos_are_the_same_from_memory(
    paths: list[Path], memory: PhotosInMemory, preprocess: PreprocessConfig
) -> None:
    """In any order, one of them twice, and for whoever wants them normalised otherwise."""
    asked = [paths[index] for index in (3, 0, 4, 3)]
    found, expected = (of.images(asked, [WHOLE] * 4, preprocess) for of in (memory, PhotoFiles()))
    assert found.shape == (4, 3, 224, 224) and found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_mirrored_photos_from_memory_are_mirror_images(paths: list[Path], memory: PhotosInMemory) -> None:
    cuts = [Cut(mirrored=True), WHOLE, Cut(mirrored=True)]
    found, files = (of.images(paths[:3], cuts, OTHERS) for of in (memory, PhotoFiles()))
    plain = memory.images(paths[:3], [WHOLE] * 3, OTHERS)
    torch.testing.assert_close(found, torch.stack([plain[0].flip(-1), plain[1], plain[2].flip(-1)]), rtol=0, atol=2e-3)
    torch.testing.assert_close(found, files, rtol=0, atol=2e-3)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.floats(0.05, 1), st.booleans(), st.booleans())
def test_crops_from_memory_are_about_those_of_files(
    smooth: list[Path], smooth_memory: PhotosInMemory, seed: int, crop: float, flip: bool, keep_aspect: bool
) -> None:
    rng = np.random.default_rng(seed)
    cuts = [random_cut(rng, Augmentation(crop, flip, keep_aspect)) for _ in smooth]
    found, expected = (of.images(smooth, cuts, PIXELS) for of in (smooth_memory, PhotoFiles()))
    assert found.shape == expected.shape and bool(torch.isfinite(found).all())
    # Bilinear instead of bicubic, and not rounded to bytes.
    assert (found - expected).abs().mean(dim=(1, 2, 3)).max() < 0.005
    assert (found - expected).abs().max() < 0.05
    assert found.min() >= 0 and found.max() <= 1


SHARES = st.tuples(st.floats(0, 1), st.floats(1e-6, 1)).map(lambda drawn: (drawn[0] * (1 - drawn[1]), drawn[1]))


@settings(max_examples=30)
@given(SHARES, SHARES, st.booleans())
def test_no_cut_shows_what_is_not_in_the_photo(
    paths: list[Path], memory: PhotosInMemory, across: tuple[float, float], down: tuple[float, float], mirrored: bool
) -> None:
    cut = Cut(across[0], down[0], across[1], down[1], mirrored)
    whole = memory.images(paths[:1], [WHOLE], PIXELS)[0]  # (3, S, S)
    found = memory.images(paths[:1], [cut], PIXELS)[0]
    for ours, theirs in zip(found, whole, strict=True):
        assert theirs.min() - 1e-4 <= ours.min() <= ours.max() <= theirs.max() + 1e-4  # of a NaN neither holds


def test_a_photo_that_cannot_be_read_is_named(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not a photo")
    with pytest.raises(ImageError, match=r"broken\.jpg: is not a photo"):
        PhotosInMemory([*paths, tmp_path / "broken.jpg"], PIXELS, CPU, 2)


# Which of them a run takes


def chosen(asked: str, paths: Sequence[Path], device: torch.device) -> tuple[Photos, list[str]]:
    said: list[str] = []
    return photos_for(asked, paths, PIXELS, device, 3, said.append), said


def test_on_a_cpu_photos_are_kept_if_that_is_asked_for(paths: list[Path]) -> None:
    assert chosen("auto", paths, CPU) == (PhotoFiles(3), [])
    assert chosen("no", paths, CPU) == (PhotoFiles(3), [])
    kept, said = chosen("yes", paths, CPU)
    assert isinstance(kept, PhotosInMemory) and said == []


def test_a_card_without_room_reads_photos_as_they_come(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**6, 10**9))
    photos, (line,) = chosen("auto", paths, CARD)
    assert photos == PhotoFiles(3) and chosen("no", paths, CARD) == (PhotoFiles(3), [])
    assert line.startswith("5 photos in memory take ") and line.endswith(": they are read as they come")
    with pytest.raises(ConfigError, match=r"5 photos in memory take .* on the graphics card: set keep_photos=no"):
        chosen("yes", paths, CARD)


def test_a_run_that_keeps_its_photos_decodes_each_once(
    dataset: CaptionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[str] = Counter()

    def load(path: Path, preprocess: PreprocessConfig) -> Image.Image:
        decoded[path.name] += 1
        return load_image(path, preprocess)

    monkeypatch.setattr("edgecap.training.sources.photos.load_image", load)
    # Where photos are decoded once, nobody remembers them from another test.
    monkeypatch.setattr("edgecap.training.sources.photos._decoded", _decoded.__wrapped__)
    overrides: dict[str, Any] = {**PLAIN, "views": 2, "frozen.epochs": 1, "end_to_end.epochs": 1, "keep_photos": "yes"}
    result = train_run(dataset, tmp_path / "run", overrides=overrides, say=lambda line: None)
    assert result.cider_d is not None
    rows = log_rows(tmp_path / "run")
    assert [row["stage"] for row in rows if row["loss"]] == ["frozen"] * 4 + ["end_to_end"] * 4
    assert [row["stage"] for row in rows if row["val_cider_d"]] == ["frozen", "end_to_end"]
    assert decoded == {photo.path.name: 1 for split in ("train", "val") for photo in dataset.split(split)}
