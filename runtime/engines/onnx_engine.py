"""The two graphs on ONNX Runtime, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecap.errors import BundleError, EngineError, Source, UnsupportedGraphError, brief
from edgecap.runtime.engines.engine import Encoded, FloatArray, IntArray, Step
from edgecap.runtime.engines.graph_outputs import ENCODER_AXES, STEP_AXES, checked
from edgecap.runtime.engines.libraries import ONNX_LIBRARY, not_imported
from edgecap.runtime.engines.quiet_start import quiet_start
from edgecap.runtime.engines.saturation import session_entries

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

ENCODER_INPUTS = ("image",)
ENCODER_OUTPUTS = tuple(ENCODER_AXES)
STEP_INPUTS = ("token", "h", "c", "features", "keys")
STEP_OUTPUTS = tuple(STEP_AXES)

_SILENT = 4  # ONNX Runtime's severity "fatal": its errors arrive as exceptions, and stderr belongs to the program


class OnnxBackend:
    """Both graphs in sessions of their own; may be called from several threads at once.

    ``encoder`` and ``decoder_step`` are the graphs' bytes. ``source`` names the bundle in errors. Raises
    :class:`UnsupportedGraphError` for graphs that do not load, :class:`BundleError` for those with other tensors,
    :class:`~edgecap.errors.MissingExtraError` without ONNX Runtime, and :class:`EngineError` for one that does not
    import. The encoder takes one photo at a time, the step any number of photos and hypotheses.
    """

    def __init__(self, encoder: bytes, decoder_step: bytes, threads: int, source: Source = "bundle") -> None:
        with quiet_start():
            self._encoder = _session(encoder, threads, f"{source}: encoder", ENCODER_INPUTS, ENCODER_OUTPUTS)
            self._step = _session(decoder_step, threads, f"{source}: decoder_step", STEP_INPUTS, STEP_OUTPUTS)

    @property
    def name(self) -> str:
        """``onnxruntime`` and its version."""
        import onnxruntime

        return _name(onnxruntime)

    def encode(self, images: FloatArray) -> Encoded:
        """Encode preprocessed photos (N, 3, S, S), float32. Raises :class:`EngineError`."""
        sizes = {"N": 1}  # of one photo, and the same of all
        runs = [_run(self._encoder, ENCODER_AXES, {"image": image[np.newaxis]}, sizes) for image in images]
        features, keys, h0, c0 = (
            np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*runs, strict=True)
        )
        return Encoded(features, keys, h0, c0)

    def step(self, token: IntArray, h: FloatArray, c: FloatArray, features: FloatArray, keys: FloatArray) -> Step:
        """Advance by one word: token (N, K) int64, h and c (N, K, H), features (N, L, D), keys (N, L, A)."""
        feeds: dict[str, NDArray[Any]] = {"token": token, "h": h, "c": c, "features": features, "keys": keys}
        sizes = {"N": token.shape[0], "K": token.shape[1], "H": h.shape[2], "L": features.shape[1]}
        log_probs, h_next, c_next, alpha = _run(self._step, STEP_AXES, feeds, sizes)
        return Step(log_probs, h_next, c_next, alpha)


def _session(
    graph: bytes, threads: int, source: str, inputs: Sequence[str], outputs: Sequence[str]
) -> InferenceSession:
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
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # its exceptions share no base but Exception
        raise UnsupportedGraphError(source, _name(onnxruntime), brief(error)) from error
    found = ({tensor.name for tensor in session.get_inputs()}, {tensor.name for tensor in session.get_outputs()})
    if found[0] != set(inputs) or not found[1] >= set(outputs):
        raise BundleError(source, f"has the tensors {sorted(found[0])} -> {sorted(found[1])}, not those of its role")
    return session


def _name(library: ModuleType) -> str:
    return f"onnxruntime {library.__version__}"


def _run(
    session: InferenceSession, axes: Mapping[str, str], feeds: Mapping[str, NDArray[Any]], sizes: dict[str, int]
) -> list[FloatArray]:
    try:
        results: list[object] = session.run(list(axes), dict(feeds))
    except Exception as error:  # its exceptions share no base but Exception
        raise EngineError(f"ONNX Runtime failed: {brief(error)}") from error
    return checked(results, axes, sizes)
