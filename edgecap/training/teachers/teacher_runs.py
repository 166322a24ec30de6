"""Teachers that are yet to be trained: where a TOML file is named in a captioner's place, it is trained first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from edgecap.recipes import recipe_names, recipe_path
from edgecap.training.config import TrainConfig
from edgecap.training.teachers import CAPTIONER

_SUFFIX = ".toml"


def with_teachers(config: TrainConfig, train: Callable[[Path], Path]) -> TrainConfig:
    """``config`` with the checkpoint that ``train`` makes of it in the place of each configuration."""
    trained = cache(train)

    def checkpoint(name: str) -> str:
        return str(trained(_file(name))) if name.endswith(_SUFFIX) else name

    teacher = config.teacher
    if teacher.startswith(CAPTIONER):
        teacher = CAPTIONER + checkpoint(teacher.removeprefix(CAPTIONER))
    return replace(config, teacher=teacher, task_teachers=",".join(map(checkpoint, config.task_teacher_names)))


def shared_options(config: TrainConfig) -> dict[str, Any]:
    """What a teacher has in common with its student: seed, words that they know, sentences, who reads photos."""
    text = {"language.text": config.language.text} if config.language.text else {}
    words = {"min_count": config.min_count, "max_vocabulary": config.max_vocabulary}
    return {"seed": config.seed, **words, "workers": config.workers, **text}


def _file(name: str) -> Path:
    """A file of that name, or else the recipe of the package."""
    recipe = name.removesuffix(_SUFFIX)
    return recipe_path(recipe) if not Path(name).exists() and recipe in recipe_names() else Path(name)
