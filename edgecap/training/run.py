"""Start or continue a run: what ``edgecap train`` calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgecap.data.karpathy import CaptionDataset
from edgecap.model.checkpoint import load_checkpoint
from edgecap.training.config import TrainConfig, load_config
from edgecap.training.trainer import LAST, RunResult, Trainer


def train_run(
    dataset: CaptionDataset,
    folder: Path,
    *,
    config_file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> RunResult:
    """Train in ``folder``; with ``resume`` its own configuration is used unless one is given, which must be the same.

    Raises ``ConfigError``, ``DataError``, ``ImageError`` or ``CheckpointError``; ``say`` gets lines of progress.
    """
    if resume and config_file is None and not overrides:
        config = TrainConfig.from_json(load_checkpoint(folder / LAST).config)
    else:
        config = load_config(config_file, overrides or {})
    return Trainer(config, dataset, folder, resume=resume, say=say).run()
