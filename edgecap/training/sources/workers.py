"""Threads that read photos side by side: one alone keeps a graphics card waiting.

Pillow decodes and resizes without Python's lock, so threads do, and nothing has to be sent between processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from edgecap.runtime.machine.probes import usable_cores

MOST_BY_ITSELF = 4  # what of the work is Python's goes on in one thread at a time
MOST_WITH_A_CARD = 16  # which waits for nothing else, and decodes all photos at once

Item = TypeVar("Item")
Made = TypeVar("Made")


def resolved_workers(asked: int, device: torch.device) -> int:
    """What ``asked`` comes to: 0 are as many as there are cores that nothing else here uses, one at least."""
    if asked:
        return asked
    cores = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # torchrun's processes on this machine
    learning = torch.get_num_threads() if device.type == "cpu" else 1
    return min(MOST_BY_ITSELF if device.type == "cpu" else MOST_WITH_A_CARD, max(1, cores - learning))


def in_order(make: Callable[[Item], Made], items: Sequence[Item], workers: int) -> list[Made]:
    """``make`` of each item, in their order, by so many threads; of several errors the first item's is raised."""
    if workers <= 1:
        return [make(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(make, items))
