"""Python in another process: what kills it, as an instruction that the processor lacks does, leaves this one alive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

from edgecap.errors import EngineError, brief

_PATIENCE = 120.0  # s: TensorFlow from a slow card takes a while


@dataclass(frozen=True)
class Ended:
    """What a process left: its exit status, negative for a signal, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def how(self) -> str:
        """How it failed, in a line: the signal, or the last line of what it said."""
        if self.status < 0:
            return f"killed by {_signal_name(-self.status)}"
        said = [line for line in self.err.split("\n") if line.strip()]
        return brief(said[-1]) if said else f"exit status {self.status}"


def run_python(*arguments: str, tasks: int = 1) -> Ended:
    """Run this Python, with the packages of this process. Raises :class:`EngineError` where none starts, or ends.

    ``tasks``: how many things it does one after the other, each of which may take its time.
    """
    patience = _PATIENCE * tasks
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-P", *arguments]  # -P: no module of the working directory stands for a library
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=patience, env=environment
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"no answer within {patience:.0f} seconds") from None
    except (OSError, ValueError) as error:
        raise EngineError(f"another Python does not start: {brief(error)}") from error
    return Ended(done.returncode, done.stdout, done.stderr)


def _signal_name(number: int) -> str:
    try:
        found = signal.Signals(number)
    except ValueError:
        return f"signal {number}"
    return f"{found.name} ({signal.strsignal(found)})"
