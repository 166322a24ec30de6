"""By when a caption is to be ready."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from edgecap.runtime.arguments import real_number


class Deadline:
    """``max_ms`` milliseconds from the moment that this is made. Raises :class:`~edgecap.errors.OptionError`.

    ``clock`` tells seconds.
    """

    def __init__(self, max_ms: float, clock: Callable[[], float] = time.perf_counter) -> None:
        real_number("max_ms", max_ms, "a positive, finite number of milliseconds", 5e-324, sys.float_info.max)
        self._clock = clock
        self._end = clock() + max_ms / 1e3

    def rounds(self) -> Callable[[], bool]:
        """For a loop that starts now, what tells after each round whether another one would end in time.

        It is expected to take as long as the last.
        """
        last = self._clock()

        def another() -> bool:
            nonlocal last
            now = self._clock()
            took, last = now - last, now
            return now + took <= self._end

        return another
