"""Keeping what an engine says of itself when it starts off stderr, for engines that have no switch for it."""

from __future__ import annotations

import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO

_STDERR = 2
_ONE_AT_A_TIME = threading.Lock()

# How lines begin that are of no use to anybody: TensorFlow Lite's, those of the library by which it and ONNX Runtime
# look at the CPU, ONNX Runtime's (on a Raspberry Pi it warns that the display's chip is no PCI card), and TensorFlow's.
# What stops an engine arrives as an exception.
_REMARK = re.compile(
    rb"INFO: |(Error|Warning) in cpuinfo: |onnxruntime cpuid_info warning: |WARNING: All log messages before absl"
    rb"|(\x1b\[[\d;]*m)?\d{4}-\d\d-\d\d \d\d:\d\d:[\d.]+ \[[VIW]:onnxruntime:"
    rb"|[IWE]\d{4} \d\d:\d\d:|\d{4}-\d\d-\d\d \d\d:\d\d:[\d.]+: [IWE] |To enable the following instructions: "
)


@contextmanager
def quiet_start() -> Iterator[None]:
    """Hold back an engine's remarks while it is imported and loads its graphs.

    C++ code writes them to the file descriptor: only redirecting that helps, and it is the whole process's. Whatever
    is no known remark, and what other threads write to stderr meanwhile, comes out at the end of the block. Without a
    stderr, or a place for a temporary file, nothing is held back.
    """
    with _ONE_AT_A_TIME, _held_back(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        yield


@contextmanager
def _held_back() -> Iterator[None]:
    with ExitStack() as stack:
        with suppress(OSError):
            stderr = os.dup(_STDERR)
            stack.callback(os.close, stderr)
            heard = stack.enter_context(tempfile.TemporaryFile())
            os.dup2(heard.fileno(), _STDERR)
            stack.callback(_pass_on, heard, stderr)
        yield


def _pass_on(heard: IO[bytes], stderr: int) -> None:
    """Put the file descriptor ``stderr`` back into its place, and write what was ``heard`` there, without remarks."""
    os.dup2(stderr, _STDERR)
    heard.seek(0)
    with suppress(OSError):  # nobody reads it
        for line in heard:
            if not _REMARK.match(line):
                os.write(_STDERR, line)
