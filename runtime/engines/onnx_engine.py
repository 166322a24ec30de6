"""A graph on ONNX Runtime, on the CPU."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from edgecap.errors import EngineError, Source, UnsupportedGraphError, brief
from edgecap.runtime.bundle.entries import GraphEntry
from edgecap.runtime.engines.engine import Arrays
from edgecap.runtime.engines.graph_outputs import Shape, check_tensors
from edgecap.runtime.engines.libraries import ONNX_LIBRARY, not_imported
from edgecap.runtime.engines.quiet_start import quiet_start
from edgecap.runtime.engines.saturation import session_entries

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

_SILENT = 4  # ONNX Runtime's severity "fatal": its errors arrive as exceptions, and stderr belongs to the program
# What ONNX Runtime calls the types that numpy has other names for.
_DTYPES = {"float": "float32", "double": "float64"}


class OnnxGraph:
    """A graph in a session of its own; may be run from several threads at once.

    ``source`` names the graph in errors. Raises :class:`~edgecap.errors.UnsupportedGraphError` for one that does not
    load, :class:`~edgecap.errors.EngineError` for one with other tensors than those of ``entry``, and for an ONNX
    Runtime that does not import, and :class:`~edgecap.errors.MissingExtraError` without one.
    """

    def __init__(self, content: bytes, entry: GraphEntry, threads: int, source: Source) -> None:
        self.entry = entry
        with quiet_start():
            self._session = _session(content, threads, source)
        for kind, found, listed in (
            ("inputs", self._session.get_inputs(), entry.inputs),
            ("outputs", self._session.get_outputs(), entry.outputs),
        ):
            check_tensors(str(source), kind, {tensor.name: _facts(tensor) for tensor in found}, listed)
        self._outputs = [tensor.name for tensor in entry.outputs]

    @property
    def name(self) -> str:
        """``onnxruntime`` and its version."""
        import onnxruntime

        return _name(onnxruntime)

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs, by name. Raises :class:`~edgecap.errors.EngineError`."""
        try:
            results = self._session.run(self._outputs, dict(feeds))
        except Exception as error:  # its exceptions share no base but Exception
            raise EngineError(f"ONNX Runtime failed: {brief(error)}") from error
        return dict(zip(self._outputs, results, strict=True))


def _facts(tensor: NodeArg) -> tuple[str, Shape]:
    """Type and shape, from ``tensor(float)``."""
    kind = tensor.type.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(kind, kind), tensor.shape


def _session(graph: bytes, threads: int, source: Source) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise not_imported("onnx", ONNX_LIBRARY, error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    options.add_session_config_entry("session.load_model_format", "ONNX")  # it would take its own format for one, too
    # Threads that spin between the many short steps burn the board's power for little time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, value in session_entries(graph).items():
        options.add_session_config_entry(name, value)
    try:
        # Its fallback would try the same once more, and print to stdout that it does.
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # its exceptions share no base but Exception
        raise UnsupportedGraphError(source, _name(onnxruntime), brief(error)) from error


def _name(library: ModuleType) -> str:
    return f"onnxruntime {library.__version__}"
