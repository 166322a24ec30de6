"""A teacher that is named by its configuration is trained first, once, and the run goes on from wherever it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_runs import PLAIN, assert_same_run

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.data.karpathy import CaptionDataset
from edgecap.errors import ConfigError
from edgecap.recipes import recipe_path
from edgecap.training.config import TrainConfig
from edgecap.training.run import train_run
from edgecap.training.teachers.teacher_runs import shared_options, with_teachers

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TEACHER = """
preset = "plus"
backbone_weights = "none"
precision = "fp32"
batch_size = 4
views = 1
[frozen]
epochs = 1
[end_to_end]
epochs = 0
"""


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """A student of features and words of one teacher, which is yet to be trained."""
    file = tmp_path / "wide.toml"
    file.write_text(TEACHER)
    taught = {"teacher": f"captioner:{file}", "task_teachers": str(file), "teacher_views": 1}
    return {**PLAIN, **taught, "preset": "base", "distillation.epochs": 1, "frozen.epochs": 1}


def test_the_teacher_is_trained_first_and_once(
    dataset: CaptionDataset, options: dict[str, Any], tmp_path: Path
) -> None:
    said: list[str] = []
    result = train_run(dataset, tmp_path / "run", overrides=options, say=said.append)
    own = [line for line in said if line.startswith("wide: frozen epoch 1")]
    assert len(own) == 1 and result.checkpoint == tmp_path / "run" / "best.safetensors"
    teacher = load_checkpoint(tmp_path / "run" / "wide" / "best.safetensors")
    student = load_checkpoint(result.checkpoint)
    assert teacher.config["min_count"] == 1 and teacher.vocabulary.tokens == student.vocabulary.tokens
    # Nothing of this machine's runs is in what a checkpoint tells.
    assert (
        student.config["teacher"] == options["teacher"] and student.config["task_teachers"] == options["task_teachers"]
    )
    assert not (tmp_path / "run" / "wide" / "cache").exists(), "it shares the run's"


@pytest.mark.parametrize("last_words", ["wide: frozen epoch 1", "distillation epoch 1"])
def test_a_run_that_stopped_goes_on(
    dataset: CaptionDataset, options: dict[str, Any], tmp_path: Path, last_words: str
) -> None:
    def stop(line: str) -> None:
        if line.startswith(last_words):
            raise KeyboardInterrupt

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train_run(dataset, whole, overrides=options, say=lambda line: None)
    with pytest.raises(KeyboardInterrupt):
        train_run(dataset, stopped, overrides=options, say=stop)
    train_run(dataset, stopped, resume=True, say=lambda line: None)
    assert_same_run(stopped, whole)
    assert_same_run(stopped / "wide", whole / "wide")


def test_a_recipe_stands_for_its_file_where_there_is_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Path] = []

    def train(file: Path) -> Path:
        trained.append(file)
        return Path("best.safetensors")

    monkeypatch.chdir(tmp_path)
    config = TrainConfig(teacher="captioner:large.toml", task_teachers="large.toml, other.safetensors")
    taught = with_teachers(config, train)
    assert trained == [recipe_path("large")]
    assert taught.teacher == "captioner:best.safetensors"
    assert taught.task_teachers == "best.safetensors,other.safetensors"
    Path("large.toml").touch()
    with_teachers(config, train)
    assert trained[1:] == [Path("large.toml")]


def test_what_names_no_configuration_stays_as_it_is() -> None:
    config = TrainConfig(teacher="clip:a.toml", task_teachers="one.safetensors,two.safetensors")
    assert with_teachers(config, lambda file: pytest.fail(str(file))) == config


def test_student_and_teacher_share_seed_words_and_workers() -> None:
    options = {"seed": 3, "min_count": 2, "max_vocabulary": 9, "workers": 5}
    assert shared_options(TrainConfig(**options)) == options


def test_a_configuration_that_is_not_there_is_named(dataset: CaptionDataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: is not a readable TOML file"):
        train_run(dataset, tmp_path / "run", overrides={**PLAIN, "task_teachers": "nowhere.toml"})
    assert not (tmp_path / "run").exists()
