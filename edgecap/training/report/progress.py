"""The progress bars of a run: photos done, photos per second, time left."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from edgecap.training.machine.processes import rank

TERMINAL_SECONDS, LOG_SECONDS = 1, 60  # between two updates: a file keeps every one of them


def progress(description: str, photos: int, done: int = 0) -> tqdm[Any]:
    """A bar on stderr over ``photos``, of which ``done`` were done before; of several processes the first shows it."""
    seconds = TERMINAL_SECONDS if sys.stderr.isatty() else LOG_SECONDS
    bar: tqdm[Any] = tqdm(
        total=photos,
        initial=done,
        unit="photo",
        desc=description,
        mininterval=seconds,
        maxinterval=seconds,
        disable=rank() > 0,
    )
    return bar
