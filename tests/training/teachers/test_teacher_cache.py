"""A teacher's cached features are those of exactly the images that come with them, standardised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_dataset import write_photos
from torch import Tensor

from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.photo.preprocess import PreprocessConfig, load_image, normalize
from edgecap.training.config import TrainConfig
from edgecap.training.sources.fixed_views import FixedViews
from edgecap.training.sources.photos import PhotoFiles
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.sources.views import MirroredPhotos
from edgecap.training.teachers import TeacherFeatures
from edgecap.training.teachers.teacher_cache import TeacherCache, turned_maps

PHOTOS, VAL_PHOTOS = 12, 3
TEACHERS = PreprocessConfig((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
STUDENTS = PreprocessConfig((0.1, 0.2, 0.6), (0.5, 0.9, 0.1))
CONFIG = TrainConfig(crop=0.5, teacher_views=3)


def pooled_map(images: FloatArray, side: int = 7) -> FloatArray:
    """Images (N, 3, S, S) as means of the squares of a grid, (N, side * side, 3)."""
    count, _, size, _ = images.shape
    squares = images.reshape(count, 3, side, size // side, side, size // side).mean(axis=(3, 5))  # (N, 3, side, side)
    grid: FloatArray = squares.reshape(count, 3, -1).transpose(0, 2, 1)
    return grid


class PoolingTeacher:
    """Its map is the photo, 7 x 7 pixels of it. It keeps how many photos it saw, and may fail."""

    name, preprocess, grid_dim, pooled_dim = "pooling", TEACHERS, 3, 3

    def __init__(self, key: str = "key", fails_after: int | None = None) -> None:
        self.key, self.asked, self._fails_after = key, 0, fails_after

    def embed(self, images: Tensor) -> TeacherFeatures:
        if self._fails_after is not None and self.asked + len(images) > self._fails_after:
            raise KeyboardInterrupt
        self.asked += len(images)
        grid = pooled_map(images.numpy())
        return TeacherFeatures(grid, 2 * grid.mean(axis=1) + 1)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = write_photos(tmp_path_factory.mktemp("taught") / "photos", PHOTOS + VAL_PHOTOS)
    return sorted(folder.iterdir())


def cache_of(teacher: PoolingTeacher, paths: Sequence[Path], folder: Path, config: TrainConfig) -> TeacherCache:
    views = FixedViews.of(config, config.teacher_views, PhotoFiles(), flip=False)
    cache = TeacherCache(teacher, paths[:PHOTOS], paths[PHOTOS:], views)
    cache.prepare(folder)
    return cache


def views_of(
    cache: TeacherCache,
    indices: NDArray[np.int64],
    rng: np.random.Generator,
    preprocess: PreprocessConfig,
    *,
    flip: bool,
) -> tuple[FloatArray, TeacherFeatures]:
    """Views of N photos drawn at random, preprocessed so: images, and the teacher's features of them."""
    data = TrainingData((), (), Vocabulary(SPECIAL_TOKENS), preprocess)
    nobody: Any = None  # no model sees the photos
    photos = MirroredPhotos(replace(CONFIG, flip=flip), nobody, data, cache.views, cache.paths)
    seen = photos.drawn(indices, rng)
    assert seen.views is not None
    features = cache.of(indices, seen.views, seen.mirrored)
    return seen.inputs.numpy(), TeacherFeatures(features.grid.numpy(), features.pooled.numpy())


@pytest.fixture(scope="module")
def cache(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> TeacherCache:
    return cache_of(PoolingTeacher(), paths, tmp_path_factory.mktemp("cache"), CONFIG)


def plain(paths: Sequence[Path], preprocess: PreprocessConfig) -> FloatArray:
    """Photos as they are."""
    return normalize(np.stack([np.asarray(load_image(path, preprocess)) for path in paths]), preprocess)


def as_teachers(images: FloatArray, preprocess: PreprocessConfig) -> FloatArray:
    """Images preprocessed one way, preprocessed as the teacher wants them."""
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (preprocess.mean, preprocess.std))
    pixels = np.rint((images * std + mean) * 255)  # (N, 3, S, S)
    return normalize(pixels.transpose(0, 2, 3, 1).astype(np.uint8), TEACHERS)


def assert_features_of(features: TeacherFeatures, images: FloatArray, paths: Sequence[Path]) -> None:
    """That features are the teacher's of images as it wants them, standardised over the photos as they are."""
    parts = (plain(paths[:PHOTOS], TEACHERS), images)
    over, found = (PoolingTeacher().embed(torch.from_numpy(part)) for part in parts)
    grid = (found.grid - over.grid.mean(axis=(0, 1))) / over.grid.std(axis=(0, 1))
    pooled = (found.pooled - over.pooled.mean(axis=0)) / over.pooled.std(axis=0)
    np.testing.assert_allclose(features.grid, grid, atol=0.02)  # cached in half precision
    np.testing.assert_allclose(features.pooled, pooled, atol=0.05)


@pytest.mark.parametrize("preprocess", [TEACHERS, STUDENTS], ids=["teacher's", "student's"])
def test_features_are_of_the_images_beside_them(
    cache: TeacherCache, paths: list[Path], preprocess: PreprocessConfig
) -> None:
    indices = np.tile(np.arange(PHOTOS), 3)
    images, features = views_of(cache, indices, np.random.default_rng(1), preprocess, flip=True)
    assert images.shape == (36, 3, 224, 224) and features.grid.shape == (36, 49, 3)
    assert images.dtype == features.grid.dtype == features.pooled.dtype == np.float32
    assert_features_of(features, as_teachers(images, preprocess), paths)
    different = {image.tobytes() for image in images}
    assert len(different) > 24  # three views, mirrored or not: hardly any comes twice


def test_images_are_the_students_of_the_photo_asked_for(cache: TeacherCache, paths: list[Path]) -> None:
    """As it is, mirrored or cropped: the first view is among a few draws, and its mirror image."""
    photo = plain(paths[5:6], STUDENTS)[0]
    drawn, _ = views_of(cache, np.full(24, 5), np.random.default_rng(1), STUDENTS, flip=True)
    same = [np.array_equal(image, photo) for image in drawn]
    turned = [np.array_equal(image, photo[..., ::-1]) for image in drawn]
    assert 0 < sum(same) < 12 and 0 < sum(turned) < 12
    unturned, _ = views_of(cache, np.full(24, 5), np.random.default_rng(1), STUDENTS, flip=False)
    assert len({image.tobytes() for image in unturned}) == 3  # the fixed views, none of them mirrored
    assert any(np.array_equal(image, photo) for image in unturned)
    assert not any(np.array_equal(image, photo[..., ::-1]) for image in unturned)


def test_the_same_random_numbers_give_the_same_views(cache: TeacherCache) -> None:
    indices = np.array([3, 1, 4])
    one, two, other = (views_of(cache, indices, np.random.default_rng(seed), TEACHERS, flip=True) for seed in (1, 1, 2))
    assert np.array_equal(one[0], two[0]) and np.array_equal(one[1].grid, two[1].grid)
    assert not np.array_equal(one[0], other[0])


def test_channels_of_the_first_view_have_mean_0_and_deviation_1(paths: list[Path], tmp_path: Path) -> None:
    one_view = cache_of(PoolingTeacher(), paths, tmp_path, TrainConfig(teacher_views=1))
    _, features = views_of(one_view, np.arange(PHOTOS), np.random.default_rng(0), TEACHERS, flip=False)
    np.testing.assert_allclose(features.grid.mean(axis=(0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(features.grid.std(axis=(0, 1)), 1, atol=1e-3)
    np.testing.assert_allclose(features.pooled.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(features.pooled.std(axis=0), 1, atol=1e-3)


def test_val_photos_come_as_they_are(cache: TeacherCache, paths: list[Path]) -> None:
    seen, features = cache.val(slice(1, 33), STUDENTS)
    images = seen.numpy()
    assert np.array_equal(images, plain(paths[PHOTOS + 1 :], STUDENTS))
    assert_features_of(features, as_teachers(images, STUDENTS), paths)


class OneChannel(PoolingTeacher):
    """A channel that is dead on all photos but the last."""

    def embed(self, images: Tensor) -> TeacherFeatures:
        grid, pooled = super().embed(images)
        grid[..., 0] = 0
        if self.asked >= PHOTOS:
            grid[-1, 3, 0] = 1
        return TeacherFeatures(grid, pooled)


def test_a_channel_that_is_dead_where_statistics_are_made_stays_bearable(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecap.training.teachers.teacher_cache._STATISTICS_PHOTOS", PHOTOS - 1)
    one_view = cache_of(OneChannel(), paths, tmp_path, TrainConfig(teacher_views=1))
    _, features = views_of(one_view, np.arange(PHOTOS), np.random.default_rng(0), TEACHERS, flip=False)
    assert np.isfinite(features.grid).all() and (features.grid[:-1, :, 0] == 0).all()
    assert np.abs(features.grid).max() < 100


# What is cached


def test_a_killed_run_does_not_ask_again_for_what_was_done(
    paths: list[Path], tmp_path: Path, cache: TeacherCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecap.training.sources.feature_cache.ENCODE_BATCH", 4)
    monkeypatch.setattr("edgecap.training.sources.feature_cache._BATCHES_BETWEEN_MARKS", 1)
    first, second, third = PoolingTeacher(fails_after=PHOTOS + 9), PoolingTeacher(), PoolingTeacher()
    with pytest.raises(KeyboardInterrupt):
        cache_of(first, paths, tmp_path, CONFIG)
    assert first.asked == PHOTOS + 8
    resumed = cache_of(second, paths, tmp_path, CONFIG)
    assert second.asked == 3 * PHOTOS + VAL_PHOTOS - first.asked
    cache_of(third, paths, tmp_path, CONFIG)
    assert third.asked == 0
    for one in (cache, resumed):
        images, features = views_of(one, np.arange(PHOTOS), np.random.default_rng(2), TEACHERS, flip=True)
        assert_features_of(features, images, paths)


@pytest.mark.parametrize(
    ("teacher", "config"),
    [
        (PoolingTeacher("other weights"), CONFIG),
        (PoolingTeacher(), TrainConfig(crop=0.6, teacher_views=3)),
        (PoolingTeacher(), TrainConfig(crop=0.5, teacher_views=3, seed=2)),
    ],
    ids=["weights", "crop", "seed"],
)
def test_features_of_another_recipe_are_not_taken(
    paths: list[Path], tmp_path: Path, teacher: PoolingTeacher, config: TrainConfig
) -> None:
    cache_of(PoolingTeacher(), paths, tmp_path, CONFIG)
    cache_of(teacher, paths, tmp_path, config)
    assert teacher.asked == 3 * PHOTOS + VAL_PHOTOS


# Mirrored


def drawn(seed: int, count: int, side: int) -> FloatArray:
    return np.random.default_rng(seed).standard_normal((count, 3, 2 * side, 2 * side)).astype(np.float32)


WHICH = st.lists(st.booleans(), min_size=1, max_size=4).map(np.array)


@given(st.integers(0, 999), st.integers(1, 7), WHICH)
def test_mirrored_maps_are_of_mirrored_images(seed: int, side: int, which: NDArray[np.bool_]) -> None:
    images = drawn(seed, len(which), side)
    turned = np.stack([image[..., ::-1] if mirrored else image for image, mirrored in zip(images, which, strict=True)])
    np.testing.assert_allclose(turned_maps(pooled_map(images, side), which), pooled_map(turned, side), atol=1e-6)


@given(st.integers(0, 999), st.integers(1, 7), WHICH)
def test_mirrored_twice_is_as_it_was(seed: int, side: int, which: NDArray[np.bool_]) -> None:
    grid = pooled_map(drawn(seed, len(which), side), side)
    assert np.array_equal(turned_maps(turned_maps(grid, which), which), grid)
