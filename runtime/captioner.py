"""Photos in, captions out: a bundle loaded into an engine."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from edgecap.errors import EngineError, OptionError, UnsupportedGraphError
from edgecap.runtime import engines
from edgecap.runtime.backend import Backend, Encoded
from edgecap.runtime.bundle import Bundle, find_bundle
from edgecap.runtime.caption import Caption, Prepared, Timings
from edgecap.runtime.confidence import Calibration
from edgecap.runtime.decoding import Hypothesis, decode
from edgecap.runtime.generation import DecodingOptions
from edgecap.runtime.manifest import GRAPH_ROLES, PRECISIONS, RUNTIMES, set_name
from edgecap.runtime.photo import PhotoSource
from edgecap.runtime.preprocess import to_tensor

AUTO = "auto"  # of a precision or a backend: the first that fits
MAX_THREADS = 256
_DEFAULT_MAX_THREADS = 4  # a board's cores; more only wait for each other on graphs this small


Photo = PhotoSource | Prepared


class Captioner:
    """A bundle in an engine. May be called from several threads at once; made by :func:`load`.

    ``runtime`` (onnx or tflite) and ``precision`` are those of the graphs in use; ``notes`` says in one line each what
    :func:`load` would have used if it could.
    """

    def __init__(
        self, bundle: Bundle, backend: Backend, precision: str, runtime: str = "onnx", notes: tuple[str, ...] = ()
    ) -> None:
        self.bundle = bundle
        self.precision = precision
        self.runtime = runtime
        self.notes = notes
        self._backend: Backend | None = backend

    @property
    def calibration(self) -> Calibration | None:
        """What makes a confidence of a caption's probability; ``None`` when the bundle has nothing for its graphs."""
        confidence = self.bundle.confidence
        return confidence.sets.get(set_name(self.runtime, self.precision)) if confidence else None

    @property
    def backend(self) -> Backend:
        """The engine. Raises :class:`~edgecap.errors.EngineError` after :meth:`close`."""
        if self._backend is None:
            raise EngineError("the captioner is closed")
        return self._backend

    def options(
        self,
        *,
        beam: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
        min_length: int | None = None,
    ) -> DecodingOptions:
        """The bundle's defaults with these changes. Raises :class:`~edgecap.errors.OptionError`."""
        return self.bundle.generation.options(
            self.bundle.vocabulary,
            beam=beam,
            length_penalty=length_penalty,
            min_length=min_length,
            max_length=max_length,
        )

    def prepare(self, photo: PhotoSource) -> Prepared:
        """Read and preprocess a photo, to be captioned later. Raises :class:`~edgecap.errors.ImageError`."""
        start = time.perf_counter()
        tensor = to_tensor(photo, self.bundle.preprocess)
        return Prepared(tensor, _milliseconds_since(start))

    def caption(
        self,
        photo: Photo,
        *,
        beam: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
        min_length: int | None = None,
    ) -> Caption:
        """Describe one photo: a path, bytes, a binary file, a PIL image, or a uint8 RGB array (H, W, 3).

        Raises :class:`~edgecap.errors.ImageError` for a photo that cannot be read, and
        :class:`~edgecap.errors.OptionError` for an option that cannot work.
        """
        return self.caption_batch(
            [photo], beam=beam, max_length=max_length, length_penalty=length_penalty, min_length=min_length
        )[0]

    def caption_batch(
        self,
        photos: Sequence[Photo],
        *,
        beam: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
        min_length: int | None = None,
    ) -> list[Caption]:
        """Describe several photos, which share the decoder steps; as :meth:`caption`, in the order of ``photos``.

        The first photo that cannot be read raises its error and nothing is captioned: :meth:`prepare` photos that
        are in doubt one by one, and pass what it returns.
        """
        options = self.options(beam=beam, max_length=max_length, length_penalty=length_penalty, min_length=min_length)
        prepared = [photo if isinstance(photo, Prepared) else self.prepare(photo) for photo in photos]
        if not prepared:
            return []
        backend = self.backend
        start = time.perf_counter()
        encoded = backend.encode(np.concatenate([photo.tensor for photo in prepared]))  # (N, 3, S, S)
        self._check_dims(encoded)
        encoder_ms = _milliseconds_since(start) / len(prepared)
        start = time.perf_counter()
        hypotheses = decode(backend, encoded, self.bundle.vocabulary, options)
        steps_ms = _milliseconds_since(start) / len(prepared)
        return [
            self._caption(best, photo.preprocess_ms, encoder_ms, steps_ms)
            for photo, (best, *_) in zip(prepared, hypotheses, strict=True)
        ]

    def close(self) -> None:
        """Free the engine's memory. Closing twice is harmless."""
        self._backend = None

    def __enter__(self) -> Captioner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _check_dims(self, encoded: Encoded) -> None:
        dims = self.bundle.manifest.dims
        if encoded.features.shape[1:] != (dims.locations, dims.feature_dim):
            shape = tuple(encoded.features.shape[1:])
            raise EngineError(
                f"the encoder made features {shape}, the manifest says {dims.locations, dims.feature_dim}"
            )

    def _caption(self, best: Hypothesis, preprocess_ms: float, encoder_ms: float, steps_ms: float) -> Caption:
        vocabulary = self.bundle.vocabulary
        side = math.isqrt(self.bundle.manifest.dims.locations)
        total_ms = preprocess_ms + encoder_ms + steps_ms
        calibration = self.calibration
        return Caption(
            text=vocabulary.sentence(best.token_ids),
            tokens=vocabulary.words(best.token_ids),
            token_ids=best.token_ids,
            log_prob=best.log_prob,
            attention=best.alphas.reshape(-1, side, side),  # (T, L) -> (T, 7, 7)
            timings=Timings(preprocess_ms, encoder_ms, steps_ms, total_ms, best.steps),
            truncated=not best.finished,
            confidence=calibration.probability(best.mean_log_prob) if calibration else None,
        )


def load(
    bundle: str | Path | None = None, *, precision: str = "auto", backend: str = "auto", threads: int | None = None
) -> Captioner:
    """Open a bundle and load its graphs: one's directory, the name of one that comes with the package, or its default.

    A bundle in the working directory goes before an embedded one of the same name: see
    :func:`~edgecap.runtime.bundle.find_bundle`.
    ``backend`` is ``onnx``, ``tflite``, or ``auto`` for the first of these that is installed and that the bundle has
    graphs for. ``precision`` is ``int8``, ``fp16``, ``fp32``, or ``auto`` for the fastest whose captions passed the
    limits of the export; when the engine does not load its graphs, the next one takes its place, and
    :attr:`Captioner.notes` says so. ``threads`` defaults to the cores this process may use, at most 4. Raises
    :class:`~edgecap.errors.BundleError`, :class:`~edgecap.errors.OptionError`, and
    :class:`~edgecap.errors.MissingExtraError` when no engine for the bundle's graphs is installed.
    """
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise OptionError(f"threads must be between 1 and {MAX_THREADS}, not {threads}")
    if precision not in (AUTO, *PRECISIONS):
        raise OptionError(f"precision must be auto, {', '.join(PRECISIONS)}, not {precision!r}")
    if backend not in (AUTO, *RUNTIMES):
        raise OptionError(f"backend must be auto, {', '.join(RUNTIMES)}, not {backend!r}")
    opened = Bundle.open(find_bundle(bundle))
    runtime = _runtime(opened, backend, precision)
    *candidates, last = opened.precisions(runtime) if precision == AUTO else (precision,)
    refusals: dict[str, UnsupportedGraphError] = {}
    for candidate in candidates:
        try:
            return _loaded(opened, runtime, candidate, threads, refusals)
        except UnsupportedGraphError as error:  # not the bundle's fault: its files are what was exported
            refusals[candidate] = error
    return _loaded(opened, runtime, last, threads, refusals)


def _runtime(bundle: Bundle, backend: str, precision: str) -> str:
    """The runtime to use: onnx or tflite."""
    there = {runtime: bundle.precisions(runtime) for runtime in RUNTIMES}
    asked = RUNTIMES if backend == AUTO else (backend,)
    fitting = [name for name in asked if (there[name] if precision == AUTO else precision in there[name])]
    if not fitting:
        wanted = [choice for choice in (backend, precision) if choice != AUTO]
        others = [f"{name} {', '.join(precisions)}" for name, precisions in there.items() if precisions]
        has = f"it has: {'; '.join(others) or 'none'}"
        raise OptionError(f"{bundle.path} has no {' '.join([*wanted, 'graphs'])}; {has}")
    runtime = next(filter(engines.installed, fitting), fitting[0])
    engines.require(runtime)
    return runtime


def _loaded(
    bundle: Bundle, runtime: str, precision: str, threads: int | None, refusals: Mapping[str, UnsupportedGraphError]
) -> Captioner:
    entries = [bundle.graph(role, runtime, precision) for role in GRAPH_ROLES]
    encoder, decoder_step = (bundle.read(entry) for entry in entries if entry is not None)
    engine = engines.start(runtime, encoder, decoder_step, threads or default_threads(), bundle.path)
    notes = (
        f"{refused} graphs do not load in {error.engine} ({error.problem}): {precision} is used"
        for refused, error in refusals.items()
    )
    return Captioner(bundle, engine, precision, runtime, tuple(notes))


def default_threads() -> int:
    """The cores that this process may use, at most 4."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_DEFAULT_MAX_THREADS, cores)


def _milliseconds_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3
