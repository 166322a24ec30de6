"""Trying numbered inputs in child processes, so that one that crashes, hangs or eats memory is only a finding."""

from __future__ import annotations

import faulthandler
import gc
import mmap
import os
import resource
import signal
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SECONDS = 5  # of processor time, for one input
MEMORY = 2**30  # bytes that a child may take beyond what its parent has
PATIENCE = 300  # s without any progress, whatever the machine does beside

Attempt = Callable[[int], str | None]  # tries an input by its number; what is wrong with it in words, or None


@dataclass(frozen=True)
class Finding:
    """An input, by its number, and what is wrong with it."""

    number: int
    problem: str


def try_all(attempt: Attempt, count: int, batch: int = 2000) -> Iterator[Finding]:
    """Call ``attempt`` for the numbers below ``count``, ``batch`` in a child, and yield the findings as they come."""
    number = 0
    while number < count:
        findings, number = _in_child(attempt, number, min(number + batch, count))
        yield from findings


def _in_child(attempt: Attempt, start: int, end: int) -> tuple[list[Finding], int]:
    """The findings of some numbers, and the number to go on with: after one that ended the child."""
    with mmap.mmap(-1, 8) as shared, _report() as (readable, writable):
        _set(shared, start)
        child = os.fork()
        if child == 0:
            os.close(readable)
            _try_some(attempt, start, end, shared, writable)
        os.close(writable)
        status = _wait(child, shared)
        with os.fdopen(os.dup(readable), encoding="utf-8") as report:
            findings = [_finding(line) for line in report]
        reached = _get(shared)
    if status == 0:
        return findings, end
    return [*findings, Finding(reached, _fate(status))], reached + 1


class _report:  # noqa: N801
    """A file for what a child finds; a pipe would hold only so much."""

    def __enter__(self) -> tuple[int, int]:
        self._file = os.memfd_create("findings")
        path = f"/proc/self/fd/{self._file}"
        return os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY | os.O_APPEND)

    def __exit__(self, *error: object) -> None:
        os.close(self._file)


def _try_some(attempt: Attempt, start: int, end: int, shared: mmap.mmap, writable: int) -> None:
    """The child: it does not return."""
    faulthandler.disable()
    gc.freeze()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff remarks on every damage
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    code = 1
    try:
        for number in range(start, end):
            _set(shared, number)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # whose signal ends the process, wherever it is
            problem = attempt(number)
            if problem is not None:
                os.write(writable, f"{number} {' '.join(problem.split())[:500]}\n".encode("utf-8", "replace"))
        code = 0
    finally:
        os._exit(code)


def _wait(child: int, shared: mmap.mmap) -> int:
    """The exit status of a child, which is ended when it sits at one input for too long without computing."""
    last, since = _get(shared), time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        if (number := _get(shared)) != last:
            last, since = number, time.monotonic()
        elif time.monotonic() - since > PATIENCE and _waits(child):
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)


def _waits(child: int) -> bool:
    """Whether a process waits for something, rather than for a processor, or stopped by somebody."""
    state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
    return state in "SD"


def _fate(status: int) -> str:
    if not os.WIFSIGNALED(status):
        return "an error that ended the child"
    number = os.WTERMSIG(status)
    if number == signal.SIGPROF:
        return f"hangs: more than {SECONDS} s of processor time"
    return f"ended by {signal.Signals(number).name}"


def _finding(line: str) -> Finding:
    number, _, problem = line.rstrip("\n").partition(" ")
    return Finding(int(number), problem)


def _set(shared: mmap.mmap, number: int) -> None:
    shared[:] = struct.pack("q", number)


def _get(shared: mmap.mmap) -> int:
    number: int = struct.unpack("q", shared[:])[0]
    return number
