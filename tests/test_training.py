"""Training: configuration, schedule, batches, and runs that are stopped, killed and resumed to the same bits."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from tiny_dataset import draw_photo, write_tiny_dataset

from edgecap.data.augmentation import cached_view, random_view
from edgecap.data.karpathy import CaptionDataset, build_vocabulary, load_dataset
from edgecap.errors import CheckpointError, ConfigError, DataError, ImageError
from edgecap.model.backbone_weights import recalibrate_batchnorm
from edgecap.model.captioner import CaptionModel
from edgecap.model.checkpoint import load_checkpoint, save_checkpoint
from edgecap.model.dims import preset_dims
from edgecap.model.preprocessing import preprocess_config
from edgecap.runtime.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.training.batches import EpochOrder, grid_batches, image_batches, made_ahead, pad_captions
from edgecap.training.config import Stage, TrainConfig, load_config
from edgecap.training.feature_cache import GridCache
from edgecap.training.log import LogRow, TrainingLog
from edgecap.training.run import train_run
from edgecap.training.stages import EndToEndStage, FrozenStage, TrainingData, TrainingStage

pytestmark = pytest.mark.usefixtures("one_torch_thread")
ROOT = Path(__file__).resolve().parents[1]
# One thread, as in this process: a run is compared bit by bit, and has the cores for itself nowhere.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
VOCABULARY = Vocabulary((*SPECIAL_TOKENS, "a", "dog", "runs"))
PLAIN: dict[str, Any] = {
    "preset": "plus",
    "backbone_weights": "none",
    "precision": "fp32",
    "min_count": 1,
    "batch_size": 4,
    "views": 1,
    "checkpoint_every": 3,
    "frozen.epochs": 2,
    "end_to_end.epochs": 0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of 16 train and 4 val photos. Not to be written to."""
    return write_tiny_dataset(tmp_path_factory.mktemp("data") / "tiny", train=16, val=4)


@pytest.fixture(scope="module")
def dataset(data: Path) -> CaptionDataset:
    return load_dataset(data)


def log_rows(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def log_without_speed(run: Path) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != "photos_per_second"} for row in log_rows(run)]


def assert_same_run(run: Path, other: Path) -> None:
    """Bit by bit, weights, optimizer, random numbers and what was measured; only the speed of a step may differ."""
    for name in ("last.safetensors", "best.safetensors"):
        one, two = (load_checkpoint(folder / name) for folder in (run, other))
        for tensors, others in ((one.weights, two.weights), (one.training_tensors, two.training_tensors)):
            assert tensors.keys() == others.keys()
            assert [key for key in tensors if not torch.equal(tensors[key], others[key])] == [], name
        empty: dict[str, Any] = {"weights": {}, "training_tensors": {}}
        assert replace(one, **empty) == replace(two, **empty)
    assert log_without_speed(run) == log_without_speed(other)


# Configuration


def test_the_defaults_follow_the_paper() -> None:
    config = load_config(None, {})
    assert config == TrainConfig()
    assert (config.batch_size, config.clip_norm, config.end_to_end.learning_rate) == (64, 5.0, 1.5e-4)


def test_flags_override_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('preset = "base"\nclip_norm = 1\n[frozen]\nepochs = 3\n[end_to_end]\nwarmup = 0.5\n')
    config = load_config(path, {"frozen.learning_rate": 0.01, "seed": 7, "end_to_end.warmup": 0})
    assert (config.preset, config.clip_norm, config.seed) == ("base", 1.0, 7)
    assert config.frozen == replace(TrainConfig().frozen, epochs=3, learning_rate=0.01)
    assert config.end_to_end == replace(TrainConfig().end_to_end, warmup=0.0)
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"momentum": 0.9}, r"unknown option 'momentum' \(known: preset, "),
        ({"frozen.momentum": 0.9}, r"unknown option 'frozen\.momentum' \(known: epochs, "),
        ({"frozen": 3}, "frozen must be a table"),
        ({"frozen": 3, "frozen.epochs": 1}, r"frozen must be a table to have 'frozen\.epochs'"),
        ({"seed.x": 1}, "seed must be int, not {'x': 1}"),
        ({"seed": 1, "seed.x": 1}, r"seed must be a table to have 'seed\.x'"),
        ({"batch_size": "64"}, "batch_size must be int, not '64'"),
        ({"batch_size": 6.5}, "batch_size must be int, not 6.5"),
        ({"batch_size": True}, "batch_size must be int, not True"),
        ({"flip": 1}, "flip must be bool, not 1"),
        ({"frozen.epochs": None}, r"frozen\.epochs must be int, not None"),
        ({"preset": "huge"}, "preset must be one of base, plus"),
        ({"batch_size": 0}, "batch_size, .* must be at least 1"),
        ({"views": 0}, "must be at least 1"),
        ({"checkpoint_every": -1}, "must be at least 1"),
        ({"seed": -1}, "seed must be in"),
        ({"seed": 2**64}, "seed must be in"),
        ({"dropout": 1}, r"dropout must be in \[0, 1\)"),
        ({"dropout": float("nan")}, "dropout must be in"),
        ({"crop": 0}, r"crop must be in \(0, 1\]"),
        ({"crop": 1.01}, "crop must be in"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative"),
        ({"clip_norm": 0}, "clip_norm must be above 0"),
        ({"activation": "gelu"}, "activation must be relu or leaky_relu"),
        ({"precision": "fp16"}, "precision must be bf16 or fp32"),
        ({"frozen.epochs": -1}, "epochs must not be negative"),
        ({"end_to_end.learning_rate": float("inf")}, "learning rates must be finite"),
        ({"end_to_end.backbone_learning_rate": -1e-4}, "learning rates must be finite and not negative"),
        ({"frozen.warmup": 1.5}, r"warmup must be in \[0, 1\]"),
    ],
)
def test_a_wrong_option_is_named(overrides: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_config(None, overrides)


@pytest.mark.parametrize("content", [b"preset = ", b"preset = plus", b"\xff\xfe", b"[frozen\n", b"a = 1\na = 2\n"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.toml: is not a readable TOML file"):
        load_config(path, {})
    with pytest.raises(ConfigError, match=r"nowhere\.toml: is not a readable TOML file"):
        load_config(tmp_path / "nowhere.toml", {})


# Schedule


@pytest.fixture(scope="module")
def small_model() -> CaptionModel:
    torch.manual_seed(0)
    model = CaptionModel(preset_dims("plus", 8, projection=(8,), attention_dim=8, hidden_dim=8, embedding_dim=8))
    recalibrate_batchnorm(model.encoder, [torch.randn(2, 3, 224, 224)])  # else nothing of a photo reaches the map
    return model.eval()


def stage_of(kind: type[TrainingStage], options: Stage, model: CaptionModel, dataset: CaptionDataset) -> TrainingStage:
    train, val = dataset.split("train"), dataset.split("val")
    training_data = TrainingData(train, val, VOCABULARY, preprocess_config(model.dims))
    return kind(0, options, TrainConfig(batch_size=3), model, training_data)


def test_the_rate_rises_linearly_and_falls_as_a_cosine(small_model: CaptionModel, dataset: CaptionDataset) -> None:
    stage = stage_of(FrozenStage, Stage(2, 1e-3, warmup=1 / 3), small_model, dataset)  # 16 photos, batches of 3
    assert stage.batches_per_epoch() == 6
    factors = [stage.rate_factor(step) for step in range(12)]
    cosine = [1, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, *cosine], abs=1e-6)


@given(st.integers(1, 50), st.floats(0, 1))
def test_the_rate_is_positive_and_never_above_its_peak(
    small_model: CaptionModel, dataset: CaptionDataset, epochs: int, warmup: float
) -> None:
    stage = stage_of(FrozenStage, Stage(epochs, 1e-3, warmup=warmup), small_model, dataset)
    factors = [stage.rate_factor(step) for step in range(6 * epochs)]
    assert min(factors) > 0 and max(factors) == 1
    peak = factors.index(1)
    assert factors[peak:] == sorted(factors[peak:], reverse=True) and factors[:peak] == sorted(factors[:peak])


def test_which_parameters_learn_at_which_rate(small_model: CaptionModel, dataset: CaptionDataset) -> None:
    options = Stage(1, 1e-3, backbone_learning_rate=1e-5)
    (head,) = stage_of(FrozenStage, options, small_model, dataset).parameter_groups()
    groups = stage_of(EndToEndStage, options, small_model, dataset).parameter_groups()
    backbone = set(small_model.encoder.backbone.parameters())
    assert set(head["params"]) == set(small_model.parameters()) - backbone and head["peak"] == 1e-3
    assert [set(group["params"]) for group in groups] == [set(head["params"]), backbone]
    assert [group["peak"] for group in groups] == [1e-3, 1e-5]


# Photos and captions of a batch


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


# The cache of grids


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


# The log


def test_the_log_keeps_what_is_behind_the_run(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    log = TrainingLog(path, step=0, validated=True)
    for step in (1, 2, 3):
        log.append(LogRow("frozen", 1, step, loss=1 / 3))
        if step == 2:
            log.append(LogRow("frozen", 1, step, val_cider_d=0.0))
    assert log.curve("loss") == ([1, 2, 3], [0.333333] * 3) and log.curve("val_cider_d") == ([2], [0.0])
    assert len(TrainingLog(path, step=3, validated=False).rows()) == 4
    assert len(TrainingLog(path, step=2, validated=True).rows()) == 3
    assert len(TrainingLog(path, step=2, validated=False).rows()) == 2
    assert TrainingLog(path, step=0, validated=True).rows() == []


# Whole runs


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight epochs on a frozen, random backbone. Not to be written to."""
    folder = tmp_path_factory.mktemp("learnt")
    dataset = load_dataset(write_tiny_dataset(folder / "tiny"))
    overrides = {
        **PLAIN,
        "batch_size": 8,
        "frozen.epochs": 8,
        "frozen.learning_rate": 1e-3,
        "dropout": 0.1,
        "recalibrate_batchnorm": True,
    }
    said: list[str] = []
    result = train_run(dataset, folder / "run", overrides=overrides, say=said.append)
    assert result.checkpoint == folder / "run" / "best.safetensors"
    assert said[0] == "backbone: random weights"
    assert [line for line in said if "val CIDEr-D" in line][-1].startswith("frozen epoch 8: val CIDEr-D ")
    return folder / "run"


def test_the_loss_falls(learnt: Path) -> None:
    losses = [float(row["loss"]) for row in log_rows(learnt) if row["loss"]]
    assert len(losses) == 8 * 5
    words = len(load_checkpoint(learnt / "best.safetensors").vocabulary)
    assert losses[0] == pytest.approx(np.log(words), abs=0.3)
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def test_what_a_run_leaves(learnt: Path) -> None:
    assert {path.name for path in learnt.iterdir()} == {
        "best.safetensors",
        "last.safetensors",
        "log.csv",
        "curve.png",
        "cache",
    }
    rows = log_rows(learnt)
    assert list(rows[0]) == [
        "stage",
        "epoch",
        "step",
        "loss",
        "learning_rate",
        "grad_norm",
        "photos_per_second",
        "val_cider_d",
        "val_bleu_4",
    ]
    steps = [row for row in rows if row["loss"]]
    validations = [row for row in rows if row["val_cider_d"]]
    assert [int(row["step"]) for row in steps] == list(range(1, 41))
    assert [int(row["step"]) for row in validations] == list(range(5, 41, 5))
    assert all(float(row["grad_norm"]) > 0 and float(row["photos_per_second"]) > 0 for row in steps)
    with Image.open(learnt / "curve.png") as curve:
        curve.load()
        assert curve.format == "PNG" and min(curve.size) >= 300


def test_the_best_checkpoint_is_of_the_best_validation(learnt: Path) -> None:
    best, last = load_checkpoint(learnt / "best.safetensors"), load_checkpoint(learnt / "last.safetensors")
    figures = {int(row["step"]): float(row["val_cider_d"]) for row in log_rows(learnt) if row["val_cider_d"]}
    step = max(figures, key=figures.__getitem__)  # of equals the first
    assert best.metrics["step"] == step and best.metrics["split"] == "val" and best.metrics["beam"] == 1
    assert best.metrics["CIDEr-D"] == pytest.approx(figures[step], abs=1e-3)
    assert (best.training, best.training_tensors) == ({}, {})
    assert last.training["step"] == 40 and last.training["best_cider_d"] == pytest.approx(figures[step], abs=1e-3)
    assert TrainConfig.from_json(best.config).frozen.epochs == 8


def test_a_run_is_not_overwritten_and_not_changed(learnt: Path, dataset: CaptionDataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(learnt / "last.safetensors", run)
    before = (run / "last.safetensors").read_bytes()

    def refused(error: type[Exception], problem: str, **options: Any) -> None:
        with pytest.raises(error, match=rf"last\.safetensors.* {problem}"):
            train_run(dataset, run, say=lambda line: None, **options)
        assert [path.name for path in run.iterdir()] == ["last.safetensors"]
        assert (run / "last.safetensors").read_bytes() == before

    refused(CheckpointError, "a run is there already: continue it with --resume", overrides=PLAIN)
    refused(ConfigError, "was made with another configuration", overrides=PLAIN, resume=True)
    refused(CheckpointError, "is of preset 'plus', not 'base'", overrides={"preset": "base"}, resume=True)
    shutil.copy(learnt / "best.safetensors", run / "last.safetensors")
    before = (run / "last.safetensors").read_bytes()
    refused(CheckpointError, "holds a model without training state and cannot be resumed", resume=True)
    (run / "last.safetensors").write_bytes(before[:-100])
    before = before[:-100]
    refused(CheckpointError, "is torn", resume=True)


def test_a_checkpoint_of_another_preset_than_its_config_is_refused(
    learnt: Path, dataset: CaptionDataset, tmp_path: Path
) -> None:
    saved = load_checkpoint(learnt / "last.safetensors")
    save_checkpoint(
        tmp_path / "last.safetensors", replace(saved, config={**saved.config, "preset": "base"}), half=False
    )
    with pytest.raises(CheckpointError, match=r"last\.safetensors: is of preset 'plus', not 'base'"):
        train_run(dataset, tmp_path, resume=True, say=lambda line: None)


def test_nothing_to_resume_and_nothing_to_train(dataset: CaptionDataset, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"last\.safetensors: no such checkpoint file"):
        train_run(dataset, tmp_path / "run", resume=True, say=lambda line: None)
    with pytest.raises(ConfigError, match="both stages have 0 epochs"):
        train_run(dataset, tmp_path / "run", overrides={**PLAIN, "frozen.epochs": 0}, say=lambda line: None)


def test_a_finished_run_resumes_to_itself(learnt: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(learnt, run)
    train_run(load_dataset(learnt.parent / "tiny"), run, resume=True, say=lambda line: None)
    assert_same_run(run, learnt)


# Interrupted runs, at chosen steps, on a frozen backbone: two epochs of four steps


@pytest.fixture(scope="module")
def uninterrupted(dataset: CaptionDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("frozen") / "run"
    train_run(dataset, run, overrides=PLAIN, say=lambda line: None)
    return run


@pytest.fixture
def started(uninterrupted: Path, tmp_path: Path) -> Path:
    """A run folder with nothing but the grids that the other run cached."""
    shutil.copytree(uninterrupted / "cache", tmp_path / "run" / "cache")
    return tmp_path / "run"


def resumed(dataset: CaptionDataset, run: Path) -> list[str]:
    said: list[str] = []
    train_run(dataset, run, resume=True, say=said.append)
    return said


@pytest.mark.parametrize(
    ("step", "number"), [(1, signal.SIGINT), (3, signal.SIGTERM), (4, signal.SIGINT), (5, signal.SIGINT)]
)
def test_a_signal_within_a_step_stops_after_it(
    dataset: CaptionDataset,
    uninterrupted: Path,
    started: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    number: signal.Signals,
) -> None:
    def append(log: TrainingLog, row: LogRow) -> None:
        real(log, row)
        if row.loss is not None and row.step == step:
            signal.raise_signal(number)

    real, said = TrainingLog.append, list[str]()
    monkeypatch.setattr(TrainingLog, "append", append)
    with pytest.raises(KeyboardInterrupt):
        train_run(dataset, started, overrides=PLAIN, say=said.append)
    monkeypatch.undo()
    assert said[-1] == f"stopped at step {step}; continue with --resume"
    assert load_checkpoint(started / "last.safetensors").training["step"] == step
    assert resumed(dataset, started)[0] == f"resuming at step {step}"
    assert_same_run(started, uninterrupted)


def test_a_signal_after_the_last_step_of_an_epoch_is_not_lost(
    dataset: CaptionDataset, uninterrupted: Path, started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(batches: Iterator[Any]) -> Iterator[Any]:
        yield from made_ahead(batches)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("edgecap.training.trainer.made_ahead", late)
    with pytest.raises(KeyboardInterrupt):
        train_run(dataset, started, overrides=PLAIN, say=lambda line: None)
    monkeypatch.undo()
    assert resumed(dataset, started)[0] == "resuming at step 4"
    assert_same_run(started, uninterrupted)


@pytest.mark.parametrize("every", [3, 4])
def test_a_run_that_dies_in_a_validation_repeats_it(
    dataset: CaptionDataset,
    uninterrupted: Path,
    started: Path,
    monkeypatch: pytest.MonkeyPatch,
    every: int,
) -> None:
    """With a checkpoint of every fourth step there is one of this very step, from before the validation."""

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    overrides = {**PLAIN, "checkpoint_every": every}
    monkeypatch.setattr("edgecap.training.trainer.plot_curve", die)
    with pytest.raises(KeyboardInterrupt):
        train_run(dataset, started, overrides=overrides, say=lambda line: None)
    assert log_rows(started)[-1]["val_cider_d"]
    monkeypatch.undo()
    assert resumed(dataset, started)[0] == f"resuming at step {every}"
    assert log_without_speed(started) == log_without_speed(uninterrupted)
    weights = [load_checkpoint(run / "last.safetensors").weights for run in (started, uninterrupted)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


# The command, both stages, real signals


OPTIONS = ("--preset", "plus", "--frozen-epochs", 1, "--epochs", 1, "--batch-size", 4, "--set", "checkpoint_every=3")
SETTINGS = ("--set", "views=1", "--set", "min_count=1", "--set", "precision=fp32", "--set", "backbone_weights=none")


def start(data: Path, run: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgecap", "train", "--data", str(data), "-o", str(run), *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    """Until the log has the row of that step."""
    while process.poll() is None:
        if (run / "log.csv").exists() and any(row["step"] == str(step) for row in log_rows(run)):
            return
        time.sleep(0.005)
    raise AssertionError(f"the run ended before step {step}: {finish(process)}")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the command that nothing disturbed: four steps on the frozen backbone, four end to end."""
    run = tmp_path_factory.mktemp("trained") / "run"
    code, out, err = finish(start(data, run, *OPTIONS, *SETTINGS))
    assert code == 0, err
    (line,) = out.splitlines()
    assert line.startswith(f"{run / 'best.safetensors'}  val CIDEr-D ") and line.endswith(" (greedy)")
    assert [row["stage"] for row in log_rows(run)] == ["frozen"] * 5 + ["end-to-end"] * 5
    return run


def stop_at(data: Path, run: Path, step: int, stop: Callable[[subprocess.Popen[str]], None]) -> tuple[int, str, str]:
    with start(data, run, *OPTIONS, *SETTINGS) as process:
        wait_for_step(process, run, step)
        stop(process)
        return finish(process)


def test_ctrl_c_stops_after_the_step_and_resume_gives_the_same_bits(data: Path, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, out, err = stop_at(data, run, 5, lambda process: process.send_signal(signal.SIGINT))
    assert (code, out) == (130, "") and "Traceback" not in err
    step = load_checkpoint(run / "last.safetensors").training["step"]
    assert 5 <= step < 8 and f"stopped at step {step}; continue with --resume" in err
    code, _, err = finish(start(data, run, "--resume"))
    assert code == 0 and f"resuming at step {step}" in err
    assert_same_run(run, trained)


def test_a_killed_run_resumes_from_its_checkpoint_to_the_same_bits(data: Path, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, _, _ = stop_at(data, run, 7, subprocess.Popen.kill)
    assert code == -signal.SIGKILL
    assert load_checkpoint(run / "last.safetensors").training["step"] == 6
    code, _, err = finish(start(data, run, *OPTIONS, *SETTINGS, "--resume"))  # the same options are no other ones
    assert code == 0 and "resuming at step 6" in err
    assert_same_run(run, trained)


def test_errors_of_the_command_are_one_line(data: Path, trained: Path) -> None:
    before = (trained / "last.safetensors").read_bytes()
    code, out, err = finish(start(data, trained, *OPTIONS, *SETTINGS))
    assert (code, out) == (1, "") and err.splitlines() == [
        f"edgecap: {trained / 'last.safetensors'}: a run is there already: continue it with --resume, or name another "
        "folder"
    ]
    code, out, err = finish(start(data, trained, "--resume", "--seed", 2))
    assert (code, out, len(err.splitlines())) == (1, "", 1) and "was made with another configuration" in err
    assert (trained / "last.safetensors").read_bytes() == before
