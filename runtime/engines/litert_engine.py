"""A graph on LiteRT (TensorFlow Lite), on the CPU."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecap.errors import EdgecapError, EngineError, MissingExtraError, Source, UnsupportedGraphError, brief
from edgecap.runtime.bundle.entries import GraphEntry, TensorSpec
from edgecap.runtime.engines.engine import Arrays, FloatArray
from edgecap.runtime.engines.graph_outputs import Shape, check_tensors
from edgecap.runtime.engines.libraries import LITERT_LIBRARIES, not_imported
from edgecap.runtime.engines.quiet_start import quiet_start

HYPOTHESES = "K"  # the axis in which the signatures of a graph differ


class LiteRtGraph:
    """A graph in an interpreter of its own; may be run from several threads, which take turns.

    A signature's shapes are fixed: hypotheses go in the smallest signature that holds them, the rest of it filled up
    with zeros, and more than the largest holds go in several runs. What a graph takes or gives as INT8 is float32 here.

    ``source`` names the graph in errors. Raises :class:`~edgecap.errors.UnsupportedGraphError` for a graph that does
    not load, :class:`~edgecap.errors.EngineError` for one with other signatures or tensors than those of ``entry``, and
    for a LiteRT that does not import or work with this numpy, and :class:`~edgecap.errors.MissingExtraError` without
    one.
    """

    def __init__(self, content: bytes, entry: GraphEntry, threads: int, source: Source) -> None:
        self.entry = entry
        self._lock = threading.Lock()  # an interpreter holds the tensors of one call
        with quiet_start():
            engine = _engine()
            self._name = engine.name
            try:
                interpreter = engine.interpreter(model_content=content, num_threads=threads)
                # What the engine cannot compute it says here at the latest, and its remarks; but only of one signature.
                interpreter.allocate_tensors()
                signatures = _signatures(interpreter, entry, source)
                if len(signatures) > 1:
                    for signature in signatures:
                        signature.run_on_zeros()
            except EngineError:
                raise
            except SystemError as error:  # tflite-runtime 2.14 with numpy 2, which pip lets happen
                problem = f"does not work with numpy {np.__version__}"
                advice = "install ai-edge-litert instead, or an older numpy"
                raise EngineError(f"{engine.name} {problem}: {advice}") from error
            except Exception as error:  # those of its binding share no base but Exception
                raise UnsupportedGraphError(source, engine.name, brief(error)) from error
        self._signatures = {_hypotheses(entry, signature): signature for signature in signatures}
        self._taken = [tensor for tensor in entry.inputs if HYPOTHESES in tensor.shape]

    @property
    def name(self) -> str:
        """The package that brought LiteRT, and its version: ``ai-edge-litert 2.1.0``."""
        return self._name

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs, by name, in memory of their own. Raises :class:`~edgecap.errors.EngineError`."""
        if not self._taken:
            (signature,) = self._signatures.values()
            return self._run(signature, feeds)
        first = self._taken[0]
        count = feeds[first.name].shape[first.shape.index(HYPOTHESES)]
        largest, parts = max(self._signatures), []
        for start in range(0, count, largest):
            parts.append(self._run_part(feeds, start, min(largest, count - start)))
        axes = {tensor.name: _axis(tensor) for tensor in self.entry.outputs}
        return {
            name: parts[0][name] if len(parts) == 1 else np.concatenate([part[name] for part in parts], axis)
            for name, axis in axes.items()
        }

    def _run_part(self, feeds: Arrays, start: int, count: int) -> dict[str, NDArray[Any]]:
        """The outputs for ``count`` hypotheses from number ``start`` on."""
        size = min(size for size in self._signatures if size >= count)
        part = dict(feeds)
        for tensor in self._taken:
            part[tensor.name] = _filled_up(feeds[tensor.name][:, start : start + count], size)
        made = self._run(self._signatures[size], part)
        return {tensor.name: made[tensor.name][:, :count] for tensor in self.entry.outputs}

    def _run(self, signature: _Signature, feeds: Arrays) -> dict[str, NDArray[Any]]:
        numbers = {}
        for key, value in feeds.items():
            tensor = signature.inputs[key]
            if value.shape != tensor.shape:  # LiteRT would take the new shape over, for good
                raise EngineError(f"LiteRT failed: {key} has the shape {value.shape}, not {tensor.shape}")
            numbers[key] = tensor.numbers(value)
        try:
            with self._lock:
                results = signature.runner(**numbers)
            return {key: tensor.real(results[key]) for key, tensor in signature.outputs.items()}
        except Exception as error:  # those of its binding share no base but Exception
            raise EngineError(f"LiteRT failed: {brief(error)}") from error


def _signatures(interpreter: Any, entry: GraphEntry, source: Source) -> list[_Signature]:
    """Those that the manifest lists, whose tensors are as it says. Raises :class:`~edgecap.errors.EngineError`."""
    there = list(interpreter.get_signature_list())
    missing = [name for name in entry.signatures if name not in there]
    if missing or not entry.signatures:
        raise EngineError(f"{source} has the signatures {there}, its manifest lists {list(entry.signatures)}")
    found = [_Signature(interpreter.get_signature_runner(name)) for name in entry.signatures]
    for signature in found:
        for kind, tensors, listed in (
            ("inputs", signature.inputs, entry.inputs),
            ("outputs", signature.outputs, entry.outputs),
        ):
            facts: dict[str, tuple[str, Shape]] = {name: (t.dtype.name, t.shape) for name, t in tensors.items()}
            check_tensors(str(source), kind, facts, listed)
    return found


def _hypotheses(entry: GraphEntry, signature: _Signature) -> int:
    """How many hypotheses a signature takes; 0 where there is no axis of them."""
    for tensor in entry.inputs:
        if HYPOTHESES in tensor.shape:
            return signature.inputs[tensor.name].shape[tensor.shape.index(HYPOTHESES)]
    return 0


def _axis(tensor: TensorSpec) -> int:
    return tensor.shape.index(HYPOTHESES)


def _filled_up(array: NDArray[Any], size: int) -> NDArray[Any]:
    """Zeros after the hypotheses of axis 1: (1, k, ...) -> (1, size, ...)."""
    count = array.shape[1]
    if count == size:
        return array
    filled = np.zeros((1, size, *array.shape[2:]), array.dtype)
    filled[:, :count] = array
    return filled


@dataclass(frozen=True)
class _Engine:
    """The library found: its name and version, and its class ``Interpreter``."""

    name: str
    interpreter: Callable[..., Any]


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
            # Of numpy's two types of int64 LiteRT knows but one, and ONNX Runtime gives the other.
            return real.view(self.dtype) if real.dtype == self.dtype else real
        limits = np.iinfo(self.dtype)
        numbers: NDArray[Any] = np.clip(np.rint(real / self.scale) + self.zero, limits.min, limits.max)
        return numbers.astype(self.dtype)

    def real(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Inverse of :meth:`numbers`."""
        if not self.scale:
            return numbers
        real: FloatArray = numbers.astype(np.float32, copy=False)
        return (real - np.float32(self.zero)) * np.float32(self.scale)


class _Signature:
    """A function of a graph; what it takes and gives is asked once, as that takes longer than to set the inputs."""

    def __init__(self, runner: Any) -> None:
        self.runner = runner
        self.inputs = {name: GraphTensor.of(details) for name, details in runner.get_input_details().items()}
        self.outputs = {name: GraphTensor.of(details) for name, details in runner.get_output_details().items()}

    def run_on_zeros(self) -> None:
        self.runner(**{name: np.zeros(tensor.shape, tensor.dtype) for name, tensor in self.inputs.items()})


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
