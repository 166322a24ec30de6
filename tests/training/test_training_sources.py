"""Views of photos and what is known of them: every pair, and that what is known is of exactly what is seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edgecap.architectures.checkpoint import Checkpoint, save_checkpoint
from edgecap.architectures.defaults import preprocess_config
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.data.karpathy import CaptionDataset
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.runtime.engines.engine import FloatArray
from edgecap.training.config import TrainConfig
from edgecap.training.sources.batches import EpochOrder
from edgecap.training.sources.captions import Captions, pad_captions
from edgecap.training.sources.fixed_views import FixedViews
from edgecap.training.sources.photos import PhotoFiles
from edgecap.training.sources.source import Source
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.sources.views import CachedGrids, MirroredPhotos, PhotosAnew, PhotosInViews, Views
from edgecap.training.teachers import TeacherFeatures
from edgecap.training.teachers.task_teacher import TaskTeacher
from edgecap.training.teachers.teacher_cache import TeacherCache

pytestmark = pytest.mark.usefixtures("one_torch_thread")
VOCABULARY = Vocabulary((*SPECIAL_TOKENS, "a", "red", "blue", "circle"))
CONFIG = TrainConfig(crop=0.5, views=3, precision="fp32")
PHOTOS = 6  # and two more that teachers captioned
VIEWS: dict[str, Callable[[CaptionModel, TrainingData], Views]] = {
    "grids": lambda model, data: CachedGrids(CONFIG, model, data),
    "anew": lambda model, data: PhotosAnew(CONFIG, model, data),
    "in views": lambda model, data: PhotosInViews(CONFIG, model, data, FixedViews.of(CONFIG, 2, PhotoFiles())),
    "mirrored": lambda model, data: MirroredPhotos(
        CONFIG, model, data, FixedViews.of(CONFIG, 2, PhotoFiles(), flip=False), data.paths
    ),
}


def means(images: FloatArray) -> FloatArray:
    """Images (N, 3, 224, 224) as means of the squares of a 7 x 7 grid, (N, 49, 3)."""
    squares = images.reshape(len(images), 3, 7, 32, 7, 32).mean(axis=(3, 5))
    grid: FloatArray = squares.reshape(len(images), 3, 49).transpose(0, 2, 1)
    return grid


class Averaging:
    """A teacher whose map is a small copy of the photo."""

    name, key, grid_dim, pooled_dim = "averaging", "key", 3, 3

    def __init__(self, data: TrainingData) -> None:
        self.preprocess = data.preprocess

    def embed(self, images: Tensor) -> TeacherFeatures:
        grid = means(images.numpy())
        return TeacherFeatures(grid, grid.mean(axis=1))


@pytest.fixture(scope="module")
def data(dataset: CaptionDataset, small_model: CaptionModel) -> TrainingData:
    train = dataset.split("train")
    preprocess = preprocess_config(small_model.dims)
    return TrainingData(train[:PHOTOS], dataset.split("val")[:1], VOCABULARY, preprocess, train[PHOTOS : PHOTOS + 2])


@pytest.fixture(scope="module")
def task_teacher(small_model: CaptionModel, tmp_path_factory: pytest.TempPathFactory) -> TaskTeacher:
    path = tmp_path_factory.mktemp("task") / "teacher.safetensors"
    weights = dict(small_model.state_dict())
    save_checkpoint(path, Checkpoint(small_model.dims, VOCABULARY, weights, {}, {}, {}, {}), half=False)
    return TaskTeacher([path], VOCABULARY, CONFIG)


def whole_photo(model: CaptionModel, seen: Tensor) -> Tensor:
    """Features (N, L, D) of inputs, which are grids or images."""
    with torch.no_grad():
        return model.encoder.projection(seen) if seen.ndim == 3 else model.encoder(seen)  # type: ignore[no-any-return]


@pytest.mark.parametrize("views", VIEWS)
def test_captions_and_task_teachers_features_go_with_all_views(
    views: str, data: TrainingData, small_model: CaptionModel, task_teacher: TaskTeacher, tmp_path: Path
) -> None:
    """The task teacher is the student itself, so what it sees of a batch is what the student does."""
    captions = Captions(data.learnt, VOCABULARY, CONFIG.max_words)
    source = Source(data, VIEWS[views](small_model, data), captions, task_teacher=task_teacher)
    source.prepare(tmp_path)
    batches = list(source.batches(EpochOrder(1, 0, 0, 3, PHOTOS + 2)))
    assert sorted(np.concatenate([batch.indices for batch in batches])) == list(range(PHOTOS + 2))
    for batch in batches:
        expected = pad_captions([data.learnt[i].captions for i in batch.indices], VOCABULARY, CONFIG.max_words)
        assert torch.equal(batch.captions, expected) and batch.teacher is None
        (found,) = source.task_features(batch)
        own = whole_photo(small_model, batch.inputs)
        torch.testing.assert_close(found, own, atol=2e-2, rtol=2e-2)  # cached as float16
        torch.testing.assert_close(source.views.features(batch.inputs), own, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("views", ["in views", "mirrored"])
def test_a_teachers_features_go_with_fixed_views_beside_task_teachers(
    views: str, data: TrainingData, small_model: CaptionModel, task_teacher: TaskTeacher, tmp_path: Path
) -> None:
    fixed = FixedViews.of(CONFIG, 2, PhotoFiles(), flip=views == "in views")
    teacher = TeacherCache(Averaging(data), data.paths, (), fixed)
    source = Source(data, VIEWS[views](small_model, data), None, teacher, task_teacher)
    source.prepare(tmp_path)
    standard = teacher.standardisation
    for batch in source.batches(EpochOrder(1, 0, 0, 3, PHOTOS + 2)):
        assert batch.teacher is not None and batch.captions.numel() == 0
        grid = means(batch.inputs.numpy())
        for found, wanted, (deviation, mean) in (
            (batch.teacher.grid, grid, standard.grid),
            (batch.teacher.pooled, grid.mean(axis=1), standard.pooled),
        ):
            np.testing.assert_allclose(found, (wanted - mean) / deviation, atol=0.02)
        (known,) = source.task_features(batch)
        torch.testing.assert_close(known, whole_photo(small_model, batch.inputs), atol=2e-2, rtol=2e-2)


def test_no_task_teacher_knows_nothing(data: TrainingData, small_model: CaptionModel) -> None:
    source = Source(data, VIEWS["anew"](small_model, data), None)
    batch = next(source.batches(EpochOrder(1, 0, 0, 2, PHOTOS)))
    assert source.task_features(batch) == []
