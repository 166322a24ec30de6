"""Batches of photos, captions and cached grids: the same from anywhere in an epoch."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import edgecap_here
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from tiny_dataset import draw_photo, write_tiny_dataset
from training_runs import PLAIN, log_rows

from edgecap.architectures.defaults import preprocess_config
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.torch_engine import TorchEngine
from edgecap.data.augmentation import Augmentation, cut_out, fixed_cut, random_cut
from edgecap.data.karpathy import CaptionDataset, build_vocabulary
from edgecap.errors import ImageError
from edgecap.metrics.split import image_tensor
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.runtime.engines.engine import Encoded, FloatArray
from edgecap.training.config import TrainConfig
from edgecap.training.sources.batches import EpochOrder, made_ahead
from edgecap.training.sources.captions import Captions, pad_captions
from edgecap.training.sources.feature_cache import FeatureCache, Features
from edgecap.training.sources.fixed_views import FixedViews
from edgecap.training.sources.photos import PhotoFiles
from edgecap.training.sources.source import Source
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.sources.views import CachedGrids, PhotosAnew

pytestmark = pytest.mark.usefixtures("one_torch_thread")
VOCABULARY = Vocabulary((*SPECIAL_TOKENS, "a", "dog", "runs"))


def random_view(image: Image.Image, rng: np.random.Generator, how: Augmentation) -> Image.Image:
    return cut_out(image, random_cut(rng, how))


def fixed_view(image: Image.Image, view: int, rng: np.random.Generator, how: Augmentation) -> Image.Image:
    return cut_out(image, fixed_cut(view, rng, how))


@given(st.integers(0, 2**32), st.floats(0.05, 1), st.booleans(), st.integers(8, 300), st.integers(8, 300))
def test_a_random_view_is_fixed_by_its_seed(seed: int, crop: float, flip: bool, width: int, height: int) -> None:
    image = draw_photo(3).resize((width, height))
    views = [random_view(image, np.random.default_rng(seed), Augmentation(crop, flip)) for _ in range(2)]
    assert views[0].size == image.size and views[0].tobytes() == views[1].tobytes()


def test_views_in_their_order() -> None:
    image, rng, half = draw_photo(0), np.random.default_rng(0), Augmentation(0.5, flip=True)
    assert fixed_view(image, 0, rng, half).tobytes() == image.tobytes()
    assert fixed_view(image, 1, rng, half).tobytes() == ImageOps.mirror(image).tobytes()
    drawn = {fixed_view(image, view, np.random.default_rng(view), half).tobytes() for view in range(2, 8)}
    assert len(drawn) == 6
    # Without flips the second view is drawn too; without crops either, nothing is left to draw.
    assert fixed_view(image, 1, rng, Augmentation(0.5)).tobytes() != ImageOps.mirror(image).tobytes()
    assert random_view(image, rng, Augmentation()).tobytes() == image.tobytes()
    both = {random_view(image, np.random.default_rng(seed), Augmentation(flip=True)).tobytes() for seed in range(20)}
    assert both == {image.tobytes(), ImageOps.mirror(image).tobytes()}


@pytest.mark.parametrize("keep_aspect", [True, False])
def test_crops_stretch_photos_unless_they_keep_the_aspect(keep_aspect: bool) -> None:
    ramp = np.arange(200, dtype=np.uint8)
    rows, columns = np.meshgrid(ramp, ramp, indexing="ij")
    image = Image.fromarray(np.stack([columns, rows, rows], axis=-1))  # red tells the column, green the row
    ratios = []
    for seed in range(20):
        view = random_view(image, np.random.default_rng(seed), Augmentation(0.5, keep_aspect=keep_aspect))
        width, height = (int(high) - int(low) for low, high in view.getextrema()[:2])
        ratios.append(width / height)
    stretched = max(abs(ratio - 1) for ratio in ratios)
    assert stretched < 0.03 if keep_aspect else stretched > 0.3


def test_captions_are_padded_cut_and_ordered() -> None:
    captions = [[["a", "dog"], ["a", "dog", "runs"], ["cat"]], [["a"] * 5]]
    assert pad_captions(captions, VOCABULARY, max_words=3).tolist() == [
        [[1, 4, 5, 6, 2], [1, 4, 5, 2, 0], [1, 3, 2, 0, 0]],
        [[1, 4, 4, 4, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]],  # cut, so without <end>
    ]


CAPTION = st.lists(st.sampled_from(["a", "dog", "runs", "cat"]), min_size=1, max_size=8)


@given(st.lists(st.lists(CAPTION, min_size=1, max_size=5), min_size=1, max_size=4), st.integers(1, 9))
def test_padding_loses_no_caption(captions: list[list[list[str]]], max_words: int) -> None:
    padded = pad_captions(captions, VOCABULARY, max_words)
    known = {"cat": "<unk>"}
    for photo, rows in zip(captions, padded.tolist(), strict=True):
        expected = sorted(
            ["<start>", *(known.get(w, w) for w in words[:max_words]), *["<end>"][: len(words) <= max_words]]
            for words in photo
        )
        found = [[VOCABULARY.tokens[index] for index in row if index] for row in rows]
        assert sorted(row for row in found if row) == expected
        assert [len(row) for row in found] == sorted(map(len, found), reverse=True)
        assert all(0 not in row[: len(row) - row.count(0)] for row in rows)  # <pad> stands at the end only


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 3), st.integers(0, 5), st.data())
def test_an_epoch_holds_every_photo_once_and_can_start_anywhere(
    count: int, size: int, stage: int, epoch: int, drawn: st.DataObject
) -> None:
    order = EpochOrder(1, stage, epoch, size, count)
    batches = [batch.tolist() for batch in order]
    assert sorted(chain.from_iterable(batches)) == list(range(count)) and len(order) == len(batches)
    assert all(len(batch) == size for batch in batches[:-1])
    first = drawn.draw(st.integers(0, len(batches)))
    assert [batch.tolist() for batch in replace(order, first=first)] == batches[first:]
    assume(count > 20)
    assert [batch.tolist() for batch in replace(order, epoch=epoch + 1)] != batches


def source_of(dataset: CaptionDataset, views: type[PhotosAnew | CachedGrids], model: CaptionModel) -> Source:
    train, val = dataset.split("train")[:8], dataset.split("val")[:1]
    data = TrainingData(train, val, build_vocabulary(train, 1), preprocess_config(model.dims))
    return Source(data, views(TrainConfig(views=3), model, data), Captions(train, data.vocabulary, max_words=20))


def test_batches_of_photos_are_the_same_from_anywhere(dataset: CaptionDataset, small_model: CaptionModel) -> None:
    source, order = source_of(dataset, PhotosAnew, small_model), EpochOrder(1, 1, 0, 3, 8)
    whole, rest = list(source.batches(order)), list(source.batches(replace(order, first=1)))
    assert [len(batch.inputs) for batch in whole] == [3, 3, 2]
    assert whole[0].inputs.shape == (3, 3, 224, 224) and whole[0].captions.shape[:2] == (3, 5)
    for one, other in zip(whole[1:], rest, strict=True):
        assert torch.equal(one.inputs, other.inputs) and torch.equal(one.captions, other.captions)
    again = next(source.batches(replace(order, epoch=1)))
    assert not torch.equal(again.inputs, whole[0].inputs)


def test_batches_of_grids_take_a_view_of_each_photo(
    dataset: CaptionDataset, small_model: CaptionModel, tmp_path: Path
) -> None:
    source, order = source_of(dataset, CachedGrids, small_model), EpochOrder(1, 0, 0, 5, 8)
    source.prepare(tmp_path)
    batches, views = list(source.batches(order)), FixedViews.of(TrainConfig(), 3, PhotoFiles())
    drawn = order.views(8, 3)
    for batch, indices in zip(batches, order, strict=True):
        assert np.array_equal(batch.indices, indices)
        paths = [source.data.paths[index] for index in indices]
        with torch.inference_mode():
            expected = small_model.encoder.grid(views.images(paths, drawn[indices].tolist(), source.data.preprocess))
        torch.testing.assert_close(batch.inputs, expected, atol=2e-3, rtol=2e-3)
    assert set(order.views(100, 3).tolist()) == {0, 1, 2}
    (rest,) = source.batches(replace(order, first=1))
    assert torch.equal(rest.inputs, batches[1].inputs)


def test_photos_that_cannot_be_read_are_found_before_training(tmp_path: Path) -> None:
    broken = write_tiny_dataset(tmp_path / "tiny", train=6, val=1)
    (broken / "images" / "002.jpg").write_bytes(b"not a photo")
    (broken / "images" / "004.jpg").unlink()
    arguments = ("train", "--data", broken, "-o", tmp_path / "run", "--preset", "plus", "--epochs", 0)
    settings = [f"{name}={value}" for name, value in PLAIN.items() if name not in ("preset", "end_to_end.epochs")]
    options = [part for setting in settings for part in ("--set", setting)]
    code, out, err = edgecap_here(*arguments, *options, "--strict")
    assert (code, out) == (1, []) and not (tmp_path / "run").exists()
    assert err[-1].endswith("002.jpg is not a photo that Pillow can read")
    code, _, err = edgecap_here(*arguments, *options)
    assert code == 0 and sum(": left out" in line for line in err) == 2
    assert any(line.endswith("dataset_tiny.json: 2 photos are left out (--strict refuses them)") for line in err)
    assert [row["step"] for row in log_rows(tmp_path / "run") if row["loss"]] == ["1", "2"]  # of one batch each


def test_a_photo_of_train_and_val_is_refused_before_training(tmp_path: Path) -> None:
    leaking = write_tiny_dataset(tmp_path / "tiny", train=4, val=2)
    source = leaking / "dataset_tiny.json"
    source.write_text(source.read_text().replace('"004.jpg"', '"001.jpg"'))
    code, _, err = edgecap_here("train", "--data", leaking, "-o", tmp_path / "run")
    assert code == 1 and err == [f"edgecap: {source}: photo 001.jpg is in train and in val"]
    assert not (tmp_path / "run").exists()


def test_batches_made_ahead_keep_order_and_errors() -> None:
    def numbers() -> Iterator[int]:
        yield from range(5)
        raise ImageError("x.jpg", "is broken")

    made: list[int] = []
    with pytest.raises(ImageError, match=r"x\.jpg"):
        for number in made_ahead(numbers()):
            made.append(number)
    assert made == [0, 1, 2, 3, 4]


def val_grids(model: CaptionModel, dataset: CaptionDataset, folder: Path, config: TrainConfig) -> FloatArray:
    """What a stage on a frozen backbone caches of the val photos, (N, L, C)."""
    data = TrainingData(dataset.split("train")[:2], dataset.split("val"), VOCABULARY, preprocess_config(model.dims))
    grids = CachedGrids(config, model, data)
    grids.prepare(folder)
    batches = [encoded.memory["features"] for _, encoded in grids.encoded_val(GridsAsTheyAre(model))]
    return np.concatenate(batches)


class GridsAsTheyAre(TorchEngine):
    def encode_grid(self, grid: torch.Tensor) -> Encoded:
        return Encoded({"features": grid.numpy()}, {})


def test_grids_are_computed_once_and_are_the_encoders(
    small_model: CaptionModel, dataset: CaptionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(precision="fp32", crop=0.5, views=2)
    grids = val_grids(small_model, dataset, tmp_path, config)
    images = image_tensor([photo.path for photo in dataset.split("val")], preprocess_config(small_model.dims))
    with torch.inference_mode():
        expected = small_model.encoder.grid(torch.from_numpy(images))
    assert grids.shape == expected.shape == (4, 49, 1280) and expected.std() > 0.1
    np.testing.assert_allclose(grids, expected, atol=2e-3, rtol=2e-3)

    def computed(*arguments: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(small_model.encoder, "grid", computed)
    assert np.array_equal(val_grids(small_model, dataset, tmp_path, config), grids)
    for other in (replace(config, seed=2), replace(config, crop=0.6), replace(config, flip=False)):
        with pytest.raises(AssertionError, match="computed again"):
            val_grids(small_model, dataset, tmp_path, other)


def test_other_weights_give_other_grids(small_model: CaptionModel, dataset: CaptionDataset, tmp_path: Path) -> None:
    for seed in range(2):
        torch.manual_seed(seed)
        val_grids(CaptionModel(small_model.dims), dataset, tmp_path, TrainConfig(views=1))
    assert len(list(tmp_path.glob("*-view0.npy"))) == 4  # train and val


class Rows:
    """Features of photos: row n holds n. Counts what is asked for, and may fail at a photo."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.asked: list[int] = []
        self._fails_at = fails_at

    def __call__(self, rows: range) -> FloatArray:
        if self._fails_at in rows:
            raise KeyboardInterrupt
        self.asked += rows
        return np.repeat(np.array(rows, np.float32)[:, None], 3, axis=1)


def cached(folder: Path, compute: Rows, done: list[int], count: int = 1100) -> Features:
    return FeatureCache(folder, done.append).features("x", count, compute)


def test_features_resume_where_a_killed_run_left_them(tmp_path: Path) -> None:
    first, second, done = Rows(fails_at=1090), Rows(), list[int]()
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, first, [])
    assert not (tmp_path / "x.npy").exists()
    array = cached(tmp_path, second, done)
    assert second.asked == list(range(1024, 1100)) and sum(done) == 1100  # marked after 32 batches of 32
    assert np.array_equal(array[:, 1], np.arange(1100))
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", "x.npy.json"}


def test_runs_that_share_a_cache_compute_each_array_once(tmp_path: Path) -> None:
    begun, rows = threading.Event(), Rows()

    def slow(some: range) -> FloatArray:
        begun.set()
        time.sleep(0.05)
        return rows(some)

    done: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cached, tmp_path, slow, [], 100)  # type: ignore[arg-type]
        begun.wait()
        second = pool.submit(cached, tmp_path, Rows(fails_at=0), done, 100)
        assert np.array_equal(first.result(), second.result())
    assert rows.asked == list(range(100)) and sum(done) == 100


@pytest.mark.parametrize("damage", ["a byte", "the mark", "an old mark"])
def test_features_that_are_not_what_was_written_are_computed_again(tmp_path: Path, damage: str) -> None:
    cached(tmp_path, Rows(), [], count=40)
    path, mark = tmp_path / "x.npy", tmp_path / "x.npy.json"
    if damage == "a byte":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        mark.write_text("{" if damage == "the mark" else '{"done": 32}')
    again = Rows()
    assert np.array_equal(cached(tmp_path, again, [], count=40)[:, 0], np.arange(40))
    assert again.asked == list(range(40))
    unasked = Rows()
    cached(tmp_path, unasked, [], count=40)
    assert unasked.asked == []
