"""What of a dataset cannot be used: it is left out, each named and all counted, or refused."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from edgecap.errors import DataError
from edgecap.runtime.wording import counted

NAMED = 20  # of each kind at most
LONGEST_NAME = 300  # characters, with its folders

CAPTION, PHOTO = "caption", "photo"


def to_stderr(line: str) -> None:
    """Where it is said unless somebody else is to be told."""
    print(line, file=sys.stderr)


class Omissions:
    """Says what is left out of the dataset ``source``; with ``strict`` raises ``DataError`` instead, at the first."""

    def __init__(self, source: Path, *, strict: bool = False, say: Callable[[str], None] = to_stderr) -> None:
        self._source, self._strict, self._say = source, strict, say
        self.counts: Counter[str] = Counter()  # by kind, since the beginning
        self._reported: Counter[str] = Counter()
        self.first = ""

    def leave_out(self, kind: str, which: str, problem: str) -> None:
        """Leave out a caption or photo, by its name, because of ``problem``, which goes on with its verb."""
        text = f"{_bearable(which)} {problem}"
        if self._strict:
            raise DataError(self._source, text)
        self.first = self.first or text
        self.counts[kind] += 1
        if self.counts[kind] <= NAMED:
            self._say(f"{self._source}: {text}: left out")

    def note(self, text: str) -> None:
        """Say what else of the dataset was not used as it stands there."""
        self._say(f"{self._source}: {text}")

    def report(self) -> None:
        """Say how many were left out since the last report, if any."""
        new = self.counts - self._reported
        self._reported = self.counts.copy()
        if not new:
            return
        left_out = " and ".join(counted(number, kind) for kind, number in sorted(new.items()))
        verb = "is" if new.total() == 1 else "are"
        unnamed = sum(max(0, number - NAMED) for number in self.counts.values())
        named = f"; the first {NAMED} of a kind are named" if unnamed else ""
        self.note(f"{left_out} {verb} left out{named} (--strict refuses them)")


def _bearable(name: str) -> str:
    """Of a name that no file can have, both ends."""
    return name if len(name) <= LONGEST_NAME else f"{name[:100]}...{name[-100:]}"
