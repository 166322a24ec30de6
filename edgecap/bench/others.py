"""Whether others used the machine while it was measured: then its times are theirs as well."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from edgecap.runtime.machine.probes import file_text

BUSY = 0.25  # cores that others keep at work on average; an idle desktop takes a twentieth of one
# Of the first line of /proc/stat: user nice system idle iowait irq softirq steal. Guests are in user and nice.
_AT_WORK = (0, 1, 2, 5, 6, 7)


class OthersWatch:
    """From its making on, the time that processors spent on other things than this process and its children."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._began, self._all, self._own = time.perf_counter(), self._all_seconds(), _own_seconds()

    def cores(self) -> float | None:
        """How many cores that kept busy on average; ``None`` where the machine does not say."""
        now = self._all_seconds()
        if self._all is None or now is None:
            return None
        others = now - self._all - (_own_seconds() - self._own)
        return max(0.0, others) / (time.perf_counter() - self._began)

    def _all_seconds(self) -> float | None:
        name, *ticks = file_text(self._root / "proc/stat").partition("\n")[0].split()[:9] or [""]
        if name != "cpu" or len(ticks) <= max(_AT_WORK) or not all(tick.isdigit() for tick in ticks):
            return None
        if sys.platform == "win32":
            return None
        else:
            return sum(int(ticks[column]) for column in _AT_WORK) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    return sum(os.times()[:4])
