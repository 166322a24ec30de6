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

from edgecap.runtime.machine.stderr import stderr_to

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

    Whatever is no known remark comes out at the end of the block. While other threads run, without a stderr, or without
    a place for a temporary file, nothing is held back.
    """
    with _ONE_AT_A_TIME, _held_back(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        yield


@contextmanager
def _held_back() -> Iterator[None]:
    with ExitStack() as stack:
        with suppress(OSError):
            heard = stack.enter_context(tempfile.TemporaryFile())
            stack.callback(_pass_on, heard)
            stack.enter_context(stderr_to(heard))
        yield


def _pass_on(heard: IO[bytes]) -> None:
    """Write what was ``heard`` to stderr, without remarks."""
    heard.seek(0)
    with suppress(OSError):  # nobody reads it
        for line in heard:
            if not _REMARK.match(line):
                os.write(_STDERR, line)
