"""Photos read by several threads: the same batches, features and runs as by one, and errors that name the photo."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import PLAIN, log_without_speed

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.architectures.defaults import preprocess_config
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.data.karpathy import CaptionDataset
from edgecap.errors import ConfigError, ImageError
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.training.config import TrainConfig
from edgecap.training.run import train_run
from edgecap.training.sources.batches import EpochOrder, made_ahead
from edgecap.training.sources.fixed_views import FixedViews
from edgecap.training.sources.photos import PhotoFiles
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.sources.views import CachedGrids, PhotosAnew, PhotosInViews, Views
from edgecap.training.sources.workers import MOST_BY_ITSELF, MOST_WITH_A_CARD, in_order, resolved_workers

pytestmark = pytest.mark.usefixtures("one_torch_thread")
SOME, CPU, CARD = 3, torch.device("cpu"), torch.device("cuda")


def data_of(dataset: CaptionDataset, model: CaptionModel) -> TrainingData:
    train, val = dataset.split("train")[:7], dataset.split("val")[:2]
    return TrainingData(train, val, Vocabulary(SPECIAL_TOKENS), preprocess_config(model.dims))


def photos_of(kind: str, workers: int, model: CaptionModel, data: TrainingData) -> Views:
    config, data = TrainConfig(crop=0.5), replace(data, photos=PhotoFiles(workers))
    if kind == "anew":
        return PhotosAnew(config, model, data)
    return PhotosInViews(config, model, data, FixedViews.of(config, 3, data.photos))


@pytest.mark.parametrize("kind", ["anew", "in views"])
def test_batches_do_not_depend_on_who_reads_the_photos(
    kind: str, dataset: CaptionDataset, small_model: CaptionModel
) -> None:
    data = data_of(dataset, small_model)
    one, several = (list(photos_of(kind, n, small_model, data).shown(EpochOrder(1, 0, 0, 3, 7))) for n in (1, SOME))
    assert len(one) == len(several) == 3
    assert all(torch.equal(ours.inputs, theirs.inputs) for ours, theirs in zip(one, several, strict=True))


def test_cached_features_do_not_depend_on_who_reads_the_photos(
    dataset: CaptionDataset, small_model: CaptionModel, tmp_path: Path
) -> None:
    data = data_of(dataset, small_model)
    for workers in (1, SOME):
        config = TrainConfig(views=3, crop=0.5, precision="fp32")
        read = replace(data, photos=PhotoFiles(workers))
        CachedGrids(config, small_model, read).prepare(tmp_path / str(workers))
    one, several = ({path.name: path.read_bytes() for path in (tmp_path / n).iterdir()} for n in ("1", str(SOME)))
    assert len(one) == 2 * (3 + 1) and one == several


def test_a_run_may_go_on_with_other_workers_to_the_same_bits(dataset: CaptionDataset, tmp_path: Path) -> None:
    overrides: dict[str, Any] = {**PLAIN, "frozen.epochs": 1, "end_to_end.epochs": 1}
    train_run(dataset, tmp_path / "one", overrides={**overrides, "workers": 1}, say=lambda line: None)
    begun = {**overrides, "end_to_end.epochs": 0, "workers": SOME}
    train_run(dataset, tmp_path / "other", overrides=begun, say=lambda line: None)
    changes = {"end_to_end.epochs": 1, "workers": SOME + 1}
    train_run(dataset, tmp_path / "other", overrides=changes, resume=True, say=lambda line: None)
    assert log_without_speed(tmp_path / "one") == log_without_speed(tmp_path / "other")
    one, other = (load_checkpoint(tmp_path / name / "last.safetensors") for name in ("one", "other"))
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


@pytest.mark.parametrize("workers", [1, SOME])
def test_the_first_photo_that_cannot_be_read_is_named(
    workers: int, dataset: CaptionDataset, small_model: CaptionModel, tmp_path: Path
) -> None:
    data = data_of(dataset, small_model)
    order = EpochOrder(1, 0, 0, 3, 7)
    broken = [int(index) for index in [*order][1][1:]]  # the last two of the second batch
    for index in broken:
        (tmp_path / f"{index}.jpg").write_bytes(b"not a photo")
    train = [
        replace(photo, path=tmp_path / f"{index}.jpg") if index in broken else photo
        for index, photo in enumerate(data.train)
    ]
    views = photos_of("anew", workers, small_model, replace(data, train=tuple(train)))
    seen = made_ahead(views.shown(order))
    next(seen)
    with pytest.raises(ImageError, match=rf"{broken[0]}\.jpg: is not a photo"):
        next(seen)


def test_several_work_at_once_and_in_order() -> None:
    meeting = threading.Barrier(SOME, timeout=30)  # nobody gets past it alone

    def met(item: int) -> int:
        meeting.wait()
        return -item

    assert in_order(met, range(2 * SOME), SOME) == [-item for item in range(2 * SOME)]


def test_by_itself_it_takes_the_cores_that_are_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(asked: int, cores: int, device: torch.device, threads: int = 1, processes: int = 1) -> int:
        monkeypatch.setattr("edgecap.training.sources.workers.usable_cores", lambda: cores)
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        return resolved_workers(asked, device)

    assert resolved(7, 1, CPU) == 7
    assert [resolved(0, cores, CPU, threads=cores) for cores in (1, 2, 16)] == [1, 1, 1]  # all of them learn
    assert resolved(0, 4, CPU, threads=2) == 2
    assert resolved(0, 16, CPU, threads=2) == MOST_BY_ITSELF
    assert [resolved(0, cores, CARD) for cores in (1, 2, 4, 64)] == [1, 1, 3, MOST_WITH_A_CARD]
    assert resolved(0, 16, CARD, processes=8) == 1


def test_workers_beyond_reason_are_refused() -> None:
    for workers in (-1, 10**6):
        with pytest.raises(ConfigError, match=r"workers must be in \[0, 256\]"):
            TrainConfig(workers=workers)
