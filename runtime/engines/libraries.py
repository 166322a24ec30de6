"""Which engines there are, by the name of the graphs they run. None is imported before it is started."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from edgecap.errors import EdgecapError, EngineError, MissingExtraError, Source, brief

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgecap.runtime.engines.engine import Backend

ONNX_LIBRARY = "onnxruntime"
# LiteRT's, with the module of the class Interpreter. In order of preference: the first is maintained, the second is
# small, the third is a whole TensorFlow.
LITERT_LIBRARIES = {
    "ai_edge_litert": "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}
LIBRARIES = {"onnx": (ONNX_LIBRARY,), "tflite": tuple(LITERT_LIBRARIES)}  # by runtime
PACKAGES = ("onnxruntime", "ai-edge-litert", "tflite-runtime", "tensorflow")  # in which the engines come
_NAMES = {"onnx": "ONNX Runtime", "tflite": "LiteRT"}


def installed(runtime: str) -> bool:
    """Whether a library that runs the graphs of ``runtime`` (onnx or tflite) can be found; imports none."""
    return any(find_spec(library) for library in LIBRARIES[runtime])


def require(runtime: str) -> None:
    """Raise :class:`~edgecap.errors.MissingExtraError` when :func:`installed` says no."""
    if not installed(runtime):
        raise MissingExtraError(_NAMES[runtime], runtime)


def not_imported(runtime: str, library: str, error: ImportError) -> EdgecapError:
    """What to raise for a library that does not import: it is not installed, or it is and does not work."""
    if isinstance(error, ModuleNotFoundError) and error.name == library:
        return MissingExtraError(_NAMES[runtime], runtime)
    return EngineError(f"{library} is installed, but does not import ({brief(error)}): run  edgecap doctor")


def start(runtime: str, encoder: bytes, decoder_step: bytes, threads: int, source: Source) -> Backend:
    """Both graphs, given as bytes, in the engine of ``runtime``; errors are those of the engine's class.

    A process that is forked later has an engine of its own, once it needs one.
    """
    from edgecap.runtime.engines.process_engine import ProcessEngine

    return ProcessEngine(partial(_engine(runtime), encoder, decoder_step, threads, source))


def _engine(runtime: str) -> Callable[[bytes, bytes, int, Source], Backend]:
    if runtime == "onnx":
        from edgecap.runtime.engines.onnx_engine import OnnxBackend

        return OnnxBackend
    from edgecap.runtime.engines.litert_engine import LiteRtBackend

    return LiteRtBackend
