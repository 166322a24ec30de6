"""What a run is going to take, said before it: photos, epochs and disk, and the hours at the speed just measured."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS
from edgecap.runtime.wording import counted, human_bytes, lasting
from edgecap.training.sources.batches import Batch
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.stages.stage import TrainingStage

WORTH_IT = 200  # steps; fewer are over before anybody has read how long they take
_REHEARSED = 2  # batches, of which the first warms up


def plan_lines(learnt_from: str, data: TrainingData, stages: Iterable[TrainingStage], cache: Path) -> Iterator[str]:
    """What is known before anything is computed."""
    words, val = counted(len(data.vocabulary) - len(SPECIAL_TOKENS), "word"), counted(len(data.val), "photo")
    yield f"learns from {learnt_from}; {words}; judged on {val} of val"
    for stage in stages:
        epochs, photos = counted(stage.options.epochs, "epoch"), counted(stage.order(0).shown, stage.unit)
        room = stage.cached_bytes()
        disk = f"; features of {human_bytes(room)} in {cache}, where {_free(cache)} are free" if room else ""
        yield f"{stage.name}: {epochs} of {photos}, {counted(stage.steps(), 'step')}{disk}"


def _free(cache: Path) -> str:
    """What is free where a folder is, or will be."""
    place = next(folder for folder in (cache.absolute(), *cache.absolute().parents) if folder.exists())
    return human_bytes(shutil.disk_usage(place).free)


def hours_line(stage: TrainingStage, left: int, learn: Callable[[Batch], None]) -> str:
    """How long the ``left`` steps of a stage take; ``learn`` is a step without its change of the weights."""
    order, seconds = stage.order(0), 0.0
    began = time.perf_counter()
    for batch in islice(stage.batches(order), _REHEARSED):
        read = time.perf_counter()
        learn(batch)
        learnt = time.perf_counter()
        seconds = max(read - began, learnt - read)  # the next batch is read while one is learnt
        began = learnt
    speed = order.batch_size / seconds
    return f"{stage.name}: {lasting(left * seconds)} at {speed:.0f} {stage.unit}s a second, without validations"


@contextmanager
def unchanged(*modules: nn.Module) -> Iterator[None]:
    """After it the modules' buffers, their lack of gradients and all random numbers are as before it.

    Weights change by an optimizer only.
    """
    buffers = {buffer: buffer.clone() for module in modules for buffer in module.buffers()}
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for buffer, before in buffers.items():
            buffer.copy_(before)
        for module in modules:
            module.zero_grad(set_to_none=True)
