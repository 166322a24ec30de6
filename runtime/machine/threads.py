"""How many threads an engine gets."""

from __future__ import annotations

from edgecap.runtime.machine.probes import USEFUL_CORES, usable_cores

MAX_THREADS = 256


def default_threads() -> int:
    """The cores that this process may use, at most 4."""
    return min(USEFUL_CORES, usable_cores())
