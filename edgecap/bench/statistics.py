"""What is told of a sample of times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Percentiles (linear between samples) and mean of ``n`` times, in milliseconds."""

    n: int
    mean: float
    p50: float
    p90: float
    p99: float


def summarize(milliseconds: Sequence[float]) -> Summary:
    """Of at least one time."""
    p50, p90, p99 = (float(value) for value in np.percentile(milliseconds, (50, 90, 99)))
    return Summary(len(milliseconds), float(np.mean(milliseconds)), p50, p90, p99)
