"""Batches of photos, captions and cached grids: the same from anywhere in an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import ImageOps
from tiny_dataset import draw_photo, write_tiny_dataset
from training_runs import PLAIN

from edgecap.data.augmentation import cached_view, random_view
from edgecap.data.karpathy import CaptionDataset, build_vocabulary, load_dataset
from edgecap.errors import DataError, ImageError
from edgecap.model.captioner import CaptionModel
from edgecap.model.dims import preset_dims
from edgecap.model.preprocessing import preprocess_config
from edgecap.runtime.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.training.batches import EpochOrder, grid_batches, image_batches, made_ahead, pad_captions
from edgecap.training.config import TrainConfig
from edgecap.training.feature_cache import GridCache
from edgecap.training.run import train_run

pytestmark = pytest.mark.usefixtures("one_torch_thread")
VOCABULARY = Vocabulary((*SPECIAL_TOKENS, "a", "dog", "runs"))


@given(st.integers(0, 2**32), st.floats(0.05, 1), st.booleans(), st.integers(8, 300), st.integers(8, 300))
def test_a_random_view_is_fixed_by_its_seed(seed: int, crop: float, flip: bool, width: int, height: int) -> None:
    image = draw_photo(3).resize((width, height))
    views = [random_view(image, np.random.default_rng(seed), crop, flip) for _ in range(2)]
    assert views[0].size == image.size and views[0].tobytes() == views[1].tobytes()


def test_views_in_their_order() -> None:
    image, rng = draw_photo(0), np.random.default_rng(0)
    assert cached_view(image, 0, rng, 0.5, True).tobytes() == image.tobytes()
    assert cached_view(image, 1, rng, 0.5, True).tobytes() == ImageOps.mirror(image).tobytes()
    drawn = {cached_view(image, view, np.random.default_rng(view), 0.5, True).tobytes() for view in range(2, 8)}
    assert len(drawn) == 6
    # Without flips the second view is drawn too; without crops either, nothing is left to draw.
    assert cached_view(image, 1, rng, 0.5, False).tobytes() != ImageOps.mirror(image).tobytes()
    assert random_view(image, rng, 1, False).tobytes() == image.tobytes()
    both = {random_view(image, np.random.default_rng(seed), 1, True).tobytes() for seed in range(20)}
    assert both == {image.tobytes(), ImageOps.mirror(image).tobytes()}


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
    config = TrainConfig(batch_size=size)
    batches = [batch.tolist() for batch in EpochOrder(config, stage, epoch).indices(count)]
    assert sorted(chain.from_iterable(batches)) == list(range(count))
    assert all(len(batch) == size for batch in batches[:-1])
    first = drawn.draw(st.integers(0, len(batches)))
    assert [batch.tolist() for batch in EpochOrder(config, stage, epoch, first).indices(count)] == batches[first:]
    assume(count > 20)
    assert [batch.tolist() for batch in EpochOrder(config, stage, epoch + 1).indices(count)] != batches


def test_batches_of_photos_are_the_same_from_anywhere(dataset: CaptionDataset) -> None:
    config, photos = TrainConfig(batch_size=3), dataset.split("train")
    vocabulary, preprocess = build_vocabulary(photos, 1), preprocess_config(preset_dims("base", 0))
    whole = list(image_batches(photos, vocabulary, preprocess, EpochOrder(config, 1, 0)))
    rest = list(image_batches(photos, vocabulary, preprocess, EpochOrder(config, 1, 0, first=4)))
    assert [len(batch.inputs) for batch in whole] == [3, 3, 3, 3, 3, 1]
    assert whole[0].inputs.shape == (3, 3, 224, 224) and whole[0].captions.shape[:2] == (3, 5)
    for one, other in zip(whole[4:], rest, strict=True):
        assert torch.equal(one.inputs, other.inputs) and torch.equal(one.captions, other.captions)
    again = next(image_batches(photos, vocabulary, preprocess, EpochOrder(config, 1, 1)))
    assert not torch.equal(again.inputs, whole[0].inputs)


def test_batches_of_grids_take_a_view_of_each_photo(dataset: CaptionDataset) -> None:
    photos = dataset.split("train")
    # The grid of photo p in view v holds 100 v + p.
    views = [np.broadcast_to(np.float16(100 * v + np.arange(16)).reshape(16, 1, 1), (16, 4, 2)) for v in range(3)]
    order = EpochOrder(TrainConfig(batch_size=5), 0, 0)
    batches = list(grid_batches(photos, VOCABULARY, views, order))
    values = [batch.inputs[:, 0, 0].int().tolist() for batch in batches]
    assert [[value % 100 for value in batch] for batch in values] == [b.tolist() for b in order.indices(16)]
    assert {value // 100 for batch in values for value in batch} == {0, 1, 2}
    rest = list(grid_batches(photos, VOCABULARY, views, replace(order, first=2)))
    assert [batch.inputs[:, 0, 0].int().tolist() for batch in rest] == values[2:]


def test_an_unreadable_photo_is_named_while_training(tmp_path: Path) -> None:
    broken = write_tiny_dataset(tmp_path / "tiny", train=4, val=1)
    (broken / "images" / "002.jpg").write_bytes(b"not a photo")
    with pytest.raises(ImageError, match=r"002\.jpg: "):
        train_run(load_dataset(broken), tmp_path / "run", overrides=PLAIN, say=lambda line: None)
    (broken / "images" / "002.jpg").unlink()
    with pytest.raises(DataError, match=r"photo .*002\.jpg is missing"):
        train_run(load_dataset(broken), tmp_path / "other", overrides=PLAIN, say=lambda line: None)
    assert not (tmp_path / "other").exists()


def test_batches_made_ahead_keep_order_and_errors() -> None:
    def numbers() -> Iterator[int]:
        yield from range(5)
        raise ImageError("x.jpg", "is broken")

    made: list[int] = []
    with pytest.raises(ImageError, match=r"x\.jpg"):
        for number in made_ahead(numbers()):  # type: ignore[arg-type]
            made.append(number)  # type: ignore[arg-type]
    assert made == [0, 1, 2, 3, 4]


def test_grids_are_computed_once_and_are_the_encoders(
    small_model: CaptionModel, dataset: CaptionDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, preprocess = dataset.split("val"), preprocess_config(small_model.dims)
    done: list[int] = []
    config = TrainConfig(precision="fp32", crop=0.5)
    cache = GridCache(tmp_path, small_model.encoder, preprocess, config, done.append)
    grids = cache.views(photos, 3)
    assert sum(done) == 12 and {grid.shape for grid in grids} == {(4, 49, 1280)}
    batch = next(
        image_batches(photos[:1], VOCABULARY, preprocess, EpochOrder(replace(config, crop=1, flip=False), 0, 0))
    )
    with torch.inference_mode():
        plain, mirrored = (small_model.encoder.grid(x)[0].half() for x in (batch.inputs, batch.inputs.flip(3)))
    assert plain.std() > 0.1
    np.testing.assert_allclose(grids[0][0], plain, atol=2e-3, rtol=2e-3)
    np.testing.assert_allclose(grids[1][0], mirrored, atol=2e-3, rtol=2e-3)
    assert not np.array_equal(grids[2], grids[1])

    def computed(*arguments: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(small_model.encoder, "grid", computed)
    again = cache.views(photos, 3)
    assert all(np.array_equal(one, other) for one, other in zip(grids, again, strict=True))
    for other in (replace(config, seed=2), replace(config, crop=0.6), replace(config, flip=False)):
        with pytest.raises(AssertionError, match="computed again"):
            replace(cache, config=other).views(photos, 3)


def test_other_weights_give_other_grids(small_model: CaptionModel, dataset: CaptionDataset, tmp_path: Path) -> None:
    dims, photos = small_model.dims, dataset.split("val")
    for seed in range(2):
        torch.manual_seed(seed)
        encoder = CaptionModel(dims).encoder
        GridCache(tmp_path, encoder, preprocess_config(dims), TrainConfig(), lambda done: None).views(photos, 1)
    assert len(list(tmp_path.glob("*-view0.npy"))) == 2
