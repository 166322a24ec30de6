"""Standard streams that are closed or full: one line and an exit status, and no reason to leave work undone."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

_STDIN, _STDOUT, _STDERR = range(3)


class _Stdout(io.TextIOWrapper):
    """Where nobody takes the words, that is an error which says so, once; Python ends without one of its own."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise _named(error) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise _named(error) from None


class _Stderr(io.TextIOWrapper):
    """Where nobody takes what is said, it is not said; what there is to do is done all the same."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            _discard(_STDERR)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _discard(_STDERR)


def settle() -> None:
    """Once, before anything is said or opened: a file must not get the number of a standard stream that is closed.

    A closed stdout is an error to whoever writes to it, as a full one is. Streams that a caller set are left alone.
    """
    for number in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(number)
        except OSError:  # files get the lowest number that is free
            os.open(os.devnull, os.O_WRONLY if number == _STDERR else os.O_RDONLY)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _Stdout(open(_STDOUT, "wb", closefd=False), **_settings(sys.stdout, "strict"))  # noqa: SIM115
    if sys.stderr is sys.__stderr__:
        sys.stderr = _Stderr(open(_STDERR, "wb", closefd=False), **_settings(sys.stderr, "backslashreplace"))  # noqa: SIM115


def _settings(stream: TextIO | None, errors: str) -> dict[str, Any]:
    """How a stream writes that Python opened; of one that was closed, how it would."""
    if not isinstance(stream, io.TextIOWrapper):
        return {"errors": errors, "line_buffering": True}
    return {"encoding": stream.encoding, "errors": stream.errors, "line_buffering": stream.line_buffering}


def _named(error: OSError) -> OSError:
    _discard(_STDOUT)
    error.filename = "stdout"
    if error.errno == errno.EBADF:
        error.strerror = "is closed"
    return error


def _discard(number: int) -> None:
    """Let a stream end nowhere, with what its buffer still holds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
