"""The two graphs on LiteRT (TensorFlow Lite), on the CPU."""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecap.errors import (
    BundleError,
    EdgecapError,
    EngineError,
    MissingExtraError,
    Source,
    UnsupportedGraphError,
    brief,
)
from edgecap.runtime.engines.engine import Encoded, FloatArray, IntArray, Step
from edgecap.runtime.engines.graph_outputs import ENCODER_AXES, STEP_AXES, checked
from edgecap.runtime.engines.libraries import LITERT_LIBRARIES, not_imported
from edgecap.runtime.engines.onnx_engine import ENCODER_INPUTS, ENCODER_OUTPUTS, STEP_INPUTS, STEP_OUTPUTS
from edgecap.runtime.engines.quiet_start import quiet_start

ENCODE = "encode"  # the encoder's signature: image (1, S, S, 3) -> features, keys, h0, c0
STEP = "step_"  # and the number of hypotheses: a decoder step's graph has one signature for each number that it takes


class LiteRtBackend:
    """Both graphs in interpreters of their own; may be called from several threads, which take turns.

    ``encoder`` and ``decoder_step`` are the graphs' bytes. ``source`` names the bundle in errors. Raises
    :class:`UnsupportedGraphError` for graphs that do not load, :class:`BundleError` for those with other signatures or
    tensors, :class:`MissingExtraError` without LiteRT, :class:`EngineError` for one that does not import or work with
    this numpy. A signature's shapes are fixed: photos go one by one, and hypotheses in the smallest signature that
    holds them, the rest of it filled up with zeros; more than the largest holds go in several calls. What a graph takes
    or gives as INT8 is float32 here.

    ``threads`` are the encoder's. A step runs on one: it is so short that more of them are no faster, and where the
    cores are busy they wait for each other many times as long as they compute.
    """

    def __init__(self, encoder: bytes, decoder_step: bytes, threads: int, source: Source = "bundle") -> None:
        with quiet_start():
            engine = _engine()
            self._encoder = _Graph(engine, encoder, threads, source, _ENCODER)
            self._step = _Graph(engine, decoder_step, 1, source, _DECODER_STEP)
        self._name = engine.name
        self._sizes = sorted(int(name.removeprefix(STEP)) for name in self._step.signatures)

    @property
    def name(self) -> str:
        """The package that brought LiteRT, and its version: ``ai-edge-litert 2.1.0``."""
        return self._name

    def encode(self, images: FloatArray) -> Encoded:
        """Encode preprocessed photos (N, 3, S, S), float32. Raises :class:`EngineError`."""
        sizes = {"N": 1}  # of one photo, and the same of all
        photos = [self._encoder.run(ENCODE, {"image": channels_last(image)}, ENCODER_AXES, sizes) for image in images]
        features, keys, h0, c0 = (_joined(parts, axis=0) for parts in zip(*photos, strict=True))
        return Encoded(features, keys, h0, c0)

    def step(self, token: IntArray, h: FloatArray, c: FloatArray, features: FloatArray, keys: FloatArray) -> Step:
        """Advance by one word: token (N, K) int64, h and c (N, K, H), features (N, L, D), keys (N, L, A)."""
        photos = []
        for n in range(len(token)):
            one = slice(n, n + 1)
            photos.append(self._photo_step(token[one], h[one], c[one], features[one], keys[one]))
        log_probs, h_next, c_next, alpha = (_joined(parts, axis=0) for parts in zip(*photos, strict=True))
        return Step(log_probs, h_next, c_next, alpha)

    def _photo_step(
        self, token: IntArray, h: FloatArray, c: FloatArray, features: FloatArray, keys: FloatArray
    ) -> list[FloatArray]:
        """One photo, any number of hypotheses: token (1, K) and so on -> log_probs (1, K, V), h, c, alpha."""
        hypotheses, largest, parts = token.shape[1], self._sizes[-1], []
        sizes = {"N": 1, "H": h.shape[2], "L": features.shape[1]}
        for start in range(0, hypotheses, largest):
            count = min(largest, hypotheses - start)  # k
            size = next(size for size in self._sizes if size >= count)
            feeds: dict[str, NDArray[Any]] = {"features": features, "keys": keys}
            for name, value in (("token", token), ("h", h), ("c", c)):
                feeds[name] = _filled_up(value[:, start : start + count], size)
            results = self._step.run(f"{STEP}{size}", feeds, STEP_AXES, sizes | {"K": size})
            sizes["V"] = results[0].shape[2]
            parts.append([result[:, :count] for result in results])
        return [_joined(outputs, axis=1) for outputs in zip(*parts, strict=True)]


def channels_last(image: FloatArray) -> FloatArray:
    """(3, S, S) -> (1, S, S, 3). Channel by channel, which numpy copies faster than a transposed view."""
    ordered = np.empty((1, *image.shape[1:], len(image)), image.dtype)
    for channel, pixels in enumerate(image):
        ordered[0, ..., channel] = pixels
    return ordered


def _filled_up(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Zeros after the hypotheses of axis 1: (1, k, ...) -> (1, size, ...)."""
    count = array.shape[1]
    if count == size:
        return array
    filled = np.zeros((1, size, *array.shape[2:]), array.dtype)
    filled[:, :count] = array
    return filled


def _joined(parts: Sequence[FloatArray], axis: int) -> FloatArray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis)


@dataclass(frozen=True)
class _Engine:
    """The library found: its name and version, and its class ``Interpreter``."""

    name: str
    interpreter: Callable[..., Any]


@dataclass(frozen=True)
class _Role:
    """What a graph of the role must hold."""

    name: str
    signatures: str  # a pattern of the signatures' names; others may be there too
    needed: str  # one of them
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]  # and may have more


_ENCODER = _Role("encoder", ENCODE, ENCODE, ENCODER_INPUTS, ENCODER_OUTPUTS)
_DECODER_STEP = _Role("decoder_step", rf"{STEP}[1-9]\d*", f"{STEP}1", STEP_INPUTS, STEP_OUTPUTS)


@dataclass(frozen=True)
class GraphTensor:
    """An input or output: its shape, and how its whole numbers stand for real ones: (number - zero) * scale."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float  # 0: the numbers stand for themselves
    zero: int

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> GraphTensor:
        """What an interpreter tells of a tensor."""
        scale, zero = details["quantization"]
        return cls(tuple(map(int, details["shape"])), np.dtype(details["dtype"]), float(scale), int(zero))

    def numbers(self, real: NDArray[Any]) -> NDArray[Any]:
        """What stands for ``real`` in the graph."""
        if not self.scale:
            return real
        limits = np.iinfo(self.dtype)
        numbers: NDArray[Any] = np.clip(np.rint(real / self.scale) + self.zero, limits.min, limits.max)
        return numbers.astype(self.dtype)

    def real(self, numbers: NDArray[Any]) -> FloatArray:
        """Inverse of :meth:`numbers`."""
        real: FloatArray = numbers.astype(np.float32, copy=False)
        return (real - np.float32(self.zero)) * np.float32(self.scale) if self.scale else real


class _Signature:
    """A function of a graph; what it takes and gives is asked once, as that takes longer than to set the inputs."""

    def __init__(self, runner: Any) -> None:
        self.runner = runner
        self.inputs = {name: GraphTensor.of(details) for name, details in runner.get_input_details().items()}
        self.outputs = {name: GraphTensor.of(details) for name, details in runner.get_output_details().items()}

    def run_on_zeros(self) -> None:
        self.runner(**{name: np.zeros(tensor.shape, tensor.dtype) for name, tensor in self.inputs.items()})


class _Graph:
    """A graph's interpreter, called by signature with float32 and int64 arrays whatever it computes in."""

    def __init__(self, engine: _Engine, content: bytes, threads: int, source: Source, role: _Role) -> None:
        self._lock = threading.Lock()  # an interpreter holds the tensors of one call
        where = f"{source}: {role.name}"
        try:
            interpreter = engine.interpreter(model_content=content, num_threads=threads)
            # What the engine cannot compute it says here at the latest, and its remarks; but only of one signature.
            interpreter.allocate_tensors()
            found = list(interpreter.get_signature_list())
            names = [name for name in found if re.fullmatch(role.signatures, name)]
            if role.needed not in names:
                raise BundleError(where, f"has the signatures {found}, not those of its role")
            self.signatures = {name: _Signature(interpreter.get_signature_runner(name)) for name in names}
            for name, signature in self.signatures.items():
                inputs, outputs = sorted(signature.inputs), sorted(signature.outputs)
                if set(inputs) != set(role.inputs) or not set(outputs) >= set(role.outputs):
                    raise BundleError(where, f"has the tensors {inputs} -> {outputs} in {name}, not those of its role")
            if len(self.signatures) > 1:
                for signature in self.signatures.values():
                    signature.run_on_zeros()
        except BundleError:
            raise
        except SystemError as error:  # tflite-runtime 2.14 with numpy 2, which pip lets happen
            problem = f"does not work with numpy {np.__version__}"
            raise EngineError(f"{engine.name} {problem}: install ai-edge-litert instead, or an older numpy") from error
        except Exception as error:  # those of its binding share no base but Exception
            raise UnsupportedGraphError(where, engine.name, brief(error)) from error

    def run(
        self, name: str, feeds: Mapping[str, NDArray[Any]], axes: Mapping[str, str], sizes: dict[str, int]
    ) -> list[FloatArray]:
        """The outputs ``axes`` of a signature, in memory of their own. Raises :class:`EngineError`.

        ``axes`` and ``sizes`` are those of :func:`~edgecap.runtime.engines.graph_outputs.checked`.
        """
        signature, numbers = self.signatures[name], {}
        for key, value in feeds.items():
            tensor = signature.inputs[key]
            if value.shape != tensor.shape:  # LiteRT would take the new shape over, for good
                raise EngineError(f"LiteRT failed: {key} has the shape {value.shape}, not {tensor.shape}")
            numbers[key] = tensor.numbers(value)
        try:
            with self._lock:
                results = signature.runner(**numbers)
            reals = [signature.outputs[key].real(results[key]) for key in axes]
        except Exception as error:  # those of its binding share no base but Exception
            raise EngineError(f"LiteRT failed: {brief(error)}") from error
        return checked(reals, axes, sizes)


def _engine() -> _Engine:
    problem: EdgecapError = MissingExtraError("LiteRT", "tflite")
    for library, module in LITERT_LIBRARIES.items():
        try:
            interpreter = importlib.import_module(module).Interpreter
        except ImportError as error:
            found = not_imported("tflite", library, error)
            problem = problem if isinstance(found, MissingExtraError) else found
            continue
        version = importlib.import_module(library).__version__
        return _Engine(f"{library.replace('_', '-')} {version}", interpreter)
    raise problem
