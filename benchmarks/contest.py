"""Contestants that are timed in turns, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

WARM_UP = 3


@dataclass(frozen=True)
class Contestant:
    """Something to be timed. ``run`` does it once, and returns what it made."""

    name: str
    kind: str  # who competes with whom
    run: Callable[[], Any]


def medians(contestants: Sequence[Contestant], rounds: int, seconds: float) -> list[float]:
    """Milliseconds, in their order: the median of the rounds' medians, each of runs that fill so many ``seconds``."""
    for contestant in contestants:
        for _ in range(WARM_UP):
            contestant.run()
    found: list[list[float]] = [[] for _ in contestants]
    for _ in range(rounds):
        for times, contestant in zip(found, contestants, strict=True):
            times.append(_round(contestant.run, seconds))
    return [median(times) for times in found]


def _round(run: Callable[[], Any], seconds: float) -> float:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return median(times)
