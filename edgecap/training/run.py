"""Start or continue a run: what ``edgecap train`` calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgecap.data.karpathy import CaptionDataset
from edgecap.model.checkpoint import load_checkpoint
from edgecap.training.config import changed_config, load_config
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
    """Train in ``folder``; with ``resume`` by its own configuration, unless a file is given, and with ``overrides``.

    Stages that have begun must keep their options.

    Raises ``ConfigError``, ``DataError``, ``ImageError`` or ``CheckpointError``; ``say`` gets lines of progress.
    """
    if resume and config_file is None:
        config = changed_config(load_checkpoint(folder / LAST).config, overrides or {})
    else:
        config = load_config(config_file, overrides or {})
    return Trainer(config, dataset, folder, resume=resume, say=say).run()
