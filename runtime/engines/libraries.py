"""Which libraries run the graphs of which engine, and whether they are there; none is imported to find out."""

from __future__ import annotations

from importlib.util import find_spec

from edgecap.errors import EdgecapError, EngineError, MissingExtraError, brief

ONNX_LIBRARY = "onnxruntime"
# LiteRT's, with the module of the class Interpreter. In order of preference: the first is maintained, the second is
# small, the third is a whole TensorFlow.
LITERT_LIBRARIES = {
    "ai_edge_litert": "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}
LIBRARIES = {"onnx": (ONNX_LIBRARY,), "tflite": tuple(LITERT_LIBRARIES)}  # by engine
PACKAGES = ("onnxruntime", "ai-edge-litert", "tflite-runtime", "tensorflow")  # in which the engines come
_NAMES = {"onnx": "ONNX Runtime", "tflite": "LiteRT"}


def installed(engine: str) -> bool:
    """Whether a library that runs the graphs of ``engine`` (onnx or tflite) can be found; imports none."""
    return any(find_spec(library) for library in LIBRARIES[engine])


def require(engine: str) -> None:
    """Raise :class:`~edgecap.errors.MissingExtraError` when :func:`installed` says no."""
    if not installed(engine):
        raise MissingExtraError(_NAMES[engine], engine)


def not_imported(engine: str, library: str, error: ImportError) -> EdgecapError:
    """What to raise for a library that does not import: it is not installed, or it is and does not work."""
    if isinstance(error, ModuleNotFoundError) and error.name == library:
        return MissingExtraError(_NAMES[engine], engine)
    return EngineError(f"{library} is installed, but does not import ({brief(error)}): run  edgecap doctor")
