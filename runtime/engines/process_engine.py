"""An engine that a forked process does not take over: it starts one of its own.

A fork copies an engine, and not its threads. In ONNX Runtime and LiteRT alike whoever frees such a copy waits for them
for ever, and so does a process that merely ends; and a lock that another thread held stays locked. So the child keeps
its hands off the copy, and starts an engine from the same graphs when it first needs one.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from edgecap.runtime.engines.engine import Arrays, Embedder, Encoded, Engine, FloatArray, IntArray, Loaded, Step

Started = TypeVar("Started", bound=Loaded)

# No fork while an engine starts in another thread: engines have locks of their own then, and their remarks are held
# off stderr. The thread that forks may be the one that starts.
_STARTING = threading.RLock()


class ProcessOwned(Generic[Started]):
    """What ``start`` makes, once in each process."""

    def __init__(self, start: Callable[[], Started]) -> None:
        self._start = start
        self._engine: Started | None = None
        _all.add(self)
        self._own()

    @property
    def name(self) -> str:
        """Engine and version."""
        return self._own().name

    def _own(self) -> Started:
        engine = self._engine
        if engine is None:
            with _STARTING:
                engine = self._engine = self._engine or self._start()
        return engine

    def leave_behind(self) -> None:
        """In a forked child: forget the engine without freeing it, not even at the end of the process."""
        if self._engine is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._engine))
            self._engine = None


class ProcessEngine(ProcessOwned[Engine]):
    """An :class:`~edgecap.runtime.engines.engine.Engine`."""

    def encode(self, images: FloatArray) -> Encoded:
        """Encode preprocessed photos (N, 3, S, S), float32."""
        return self._own().encode(images)

    def step(self, token: IntArray, state: Arrays, memory: Arrays) -> Step:
        """Advance by one word: token (N, K) int64, each state (N, K, ...), each memory (N, ...)."""
        return self._own().step(token, state, memory)


class ProcessEmbedder(ProcessOwned[Embedder]):
    """An :class:`~edgecap.runtime.engines.engine.Embedder`."""

    def embed(self, images: FloatArray) -> FloatArray:
        """Preprocessed photos (N, 3, S, S), float32, as vectors (N, E)."""
        return self._own().embed(images)


_all: WeakSet[ProcessOwned[Any]] = WeakSet()


def _after_fork_in_child() -> None:
    for engine in _all:
        engine.leave_behind()
    _STARTING.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_STARTING.acquire, after_in_parent=_STARTING.release, after_in_child=_after_fork_in_child
    )
