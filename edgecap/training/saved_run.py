"""The checkpoint that a run goes on from: of its own configuration and datasets, or it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgecap.architectures.checkpoint import Checkpoint, load_checkpoint
from edgecap.errors import CheckpointError, ConfigError, DataError, brief
from edgecap.training.config import TrainConfig
from edgecap.training.state import DATASETS, Position


def saved_run(path: Path, config: TrainConfig, learnt_from: str) -> Checkpoint:
    """The checkpoint ``path``. ``learnt_from`` are the datasets at hand, in words.

    Raises ``CheckpointError``; ``ConfigError`` for one of another configuration, ``DataError`` of other datasets.
    """
    saved = load_checkpoint(path, preset=config.preset)
    if not saved.training:
        raise CheckpointError(path, "holds a model without training state and cannot be resumed")
    with fitting(path):
        position = Position.from_json(saved.training)
    begun = position.stage + ((position.epoch, position.batch) != (0, 0))
    if not config.continues(TrainConfig.from_json(saved.config), begun):
        raise ConfigError(
            f"{path} was made with another configuration: resume without --config and options, or with other "
            "options of stages that have not begun"
        )
    before = saved.training.get(DATASETS, learnt_from)  # not known of older runs
    if before != learnt_from:
        raise DataError(path, f"was trained on {before}, and not on {learnt_from}: name its own datasets")
    return saved


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """The one place where a training state that is not of this run becomes a ``CheckpointError``."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(path, f"has a training state that does not fit: {brief(error)}") from error
