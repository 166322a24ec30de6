"""Start or continue a run: what ``edgecap train`` calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.data.karpathy import CaptionDataset
from edgecap.data.mixture import Mixture
from edgecap.errors import CheckpointError
from edgecap.runtime.machine.atomic_write import write_atomically
from edgecap.training.config import TrainConfig, changed_config, load_config
from edgecap.training.machine.memory import keep_freed_memory
from edgecap.training.machine.processes import rank
from edgecap.training.teachers.teacher_runs import shared_options, with_teachers
from edgecap.training.trainer import LAST, RunResult, Trainer

CONFIG = "config.json"  # of a run whose teachers are being trained, so that it has no checkpoint yet


def train_run(
    dataset: CaptionDataset | Mixture,
    folder: Path,
    *,
    config_file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
    cache: Path | None = None,
) -> RunResult:
    """Train in ``folder``; cached features go there, or to ``cache``, which runs may share.

    With ``resume`` by the run's own configuration, unless a file is given, and with ``overrides``: stages that have
    begun must keep their options. A teacher that is named as a configuration is trained first, in a folder within
    ``folder``.

    Raises ``ConfigError``, ``DataError``, ``ImageError`` or ``CheckpointError``; ``say`` gets lines of progress.
    """
    keep_freed_memory()
    last = folder / LAST
    if last.exists() and not resume:
        raise CheckpointError(last, "a run is there already: continue it with --resume, or name another folder")
    try:
        mixture = Mixture.of(dataset) if isinstance(dataset, CaptionDataset) else dataset
        return _train(mixture, folder, config_file, overrides or {}, resume, say, cache or folder / "cache")
    except OSError as error:
        if error.filename is not None:
            raise
        raise CheckpointError(folder, f"cannot be written: {error.strerror or error}") from error  # a full disk, mostly


def _train(
    dataset: Mixture,
    folder: Path,
    config_file: Path | None,
    overrides: Mapping[str, Any],
    resume: bool,
    say: Callable[[str], None],
    cache: Path,
) -> RunResult:
    if resume and config_file is None:
        config = changed_config(_own_config(folder), overrides)
    else:
        config = load_config(config_file, _with_preset(overrides) if config_file is None else overrides)
    taught = with_teachers(config, lambda file: _teacher(file, config, dataset, folder, say, cache))
    resume = resume and not _only_teachers(folder)
    return Trainer(config, dataset, folder, resume=resume, say=say, taught=taught, cache=cache).run()


def _with_preset(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``overrides`` with the preset of the checkpoint that the run starts from, unless they name one."""
    start = overrides.get("start_from")
    preset = {"preset": load_checkpoint(Path(start)).dims.preset} if isinstance(start, str) and start else {}
    return {**preset, **overrides}


def _own_config(folder: Path) -> dict[str, Any]:
    if _only_teachers(folder):
        return dict(json.loads((folder / CONFIG).read_bytes()))
    return load_checkpoint(folder / LAST).config


def _only_teachers(folder: Path) -> bool:
    """Whether the run in a folder was left before its own first step."""
    return (folder / CONFIG).exists() and not (folder / LAST).exists()


def _teacher(
    file: Path, config: TrainConfig, dataset: Mixture, folder: Path, say: Callable[[str], None], cache: Path
) -> Path:
    """The checkpoint of a teacher, which is trained as far as it is not yet; it shares the run's cached features."""
    own, run = load_config(file, shared_options(config)), folder / file.stem
    run.mkdir(parents=True, exist_ok=True)
    if not (folder / LAST).exists() and rank() == 0:
        with write_atomically(folder / CONFIG) as partial:
            partial.write_text(json.dumps(config.to_json()), encoding="utf-8")
    resume = (run / LAST).exists()
    trainer = Trainer(own, dataset, run, resume=resume, say=lambda line: say(f"{file.stem}: {line}"), cache=cache)
    checkpoint = trainer.run().checkpoint
    trainer.processes.wait()  # until the first one has written it
    return checkpoint
