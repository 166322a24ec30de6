"""Memory that is freed is kept for the next tensor, instead of given back to the system."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of <malloc.h>
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Have glibc's malloc do so, in this process, from now on; where there is another one, nothing happens.

    Otherwise large tensors of each step are mapped anew, and the system clears their pages one by one: on a CPU much of
    the time of training an EfficientNet-Lite0 (``edgecap.benchmarks.training_speed --give-memory-back``).
    """
    mallopt = None if sys.platform == "win32" else getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _NEVER)
