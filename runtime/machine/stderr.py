"""Standard error sent elsewhere for a while: C++ libraries write to its file descriptor, which a process has once."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO

_STDERR = 2


@contextmanager
def stderr_to(file: IO[bytes]) -> Iterator[None]:
    """Have what is written to stderr go to ``file``.

    Not where there is no stderr, nor while other threads run: what they have to say is no library's remark, and a
    process that one of them forks or starts would have no stderr.
    """
    with ExitStack() as stack:
        if _alone():
            with suppress(OSError):  # there is no stderr
                stderr = os.dup(_STDERR)
                stack.callback(os.close, stderr)
                os.dup2(file.fileno(), _STDERR)
                stack.callback(os.dup2, stderr, _STDERR)
        yield


def _alone() -> bool:
    """Whether no other thread runs, but for the one by which tqdm looks after its bars, which says nothing."""
    others = set(threading.enumerate()) - {threading.current_thread()}
    return all(type(thread).__module__ == "tqdm._monitor" for thread in others)
