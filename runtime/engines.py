"""Which engines there are, by the name of the graphs they run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from edgecap.errors import MissingExtraError, Source
from edgecap.runtime.backend import Backend
from edgecap.runtime.litert_backend import LIBRARIES, LiteRtBackend
from edgecap.runtime.onnx_backend import OnnxBackend
from edgecap.runtime.process_engine import ProcessEngine

_ENGINES: dict[str, Callable[[bytes, bytes, int, Source], Backend]] = {"onnx": OnnxBackend, "tflite": LiteRtBackend}
PACKAGES = ("onnxruntime", "ai-edge-litert", "tflite-runtime", "tensorflow")  # in which the engines come
_LIBRARIES = {"onnx": ("onnxruntime",), "tflite": tuple(LIBRARIES)}


def installed(runtime: str) -> bool:
    """Whether a library that runs the graphs of ``runtime`` (onnx or tflite) can be imported; imports none."""
    return any(find_spec(library) for library in _LIBRARIES[runtime])


def require(runtime: str) -> None:
    """Raise :class:`~edgecap.errors.MissingExtraError` when :func:`installed` says no."""
    if not installed(runtime):
        raise MissingExtraError({"onnx": "ONNX Runtime", "tflite": "LiteRT"}[runtime], runtime)


def start(runtime: str, encoder: bytes, decoder_step: bytes, threads: int, source: Source) -> Backend:
    """Both graphs, given as bytes, in the engine of ``runtime``; errors are those of the engine's class.

    A process that is forked later has an engine of its own, once it needs one.
    """
    return ProcessEngine(partial(_ENGINES[runtime], encoder, decoder_step, threads, source))
