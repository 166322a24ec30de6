"""Photos in, captions out: a bundle loaded into an engine."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np

from edgecap.errors import EngineError
from edgecap.runtime.backend import Backend, Encoded
from edgecap.runtime.bundle import Bundle
from edgecap.runtime.caption import Caption, Prepared, Timings, milliseconds_since
from edgecap.runtime.confidence import Calibration
from edgecap.runtime.deadline import Deadline
from edgecap.runtime.decoding import Hypothesis, decode
from edgecap.runtime.generation import DecodingOptions
from edgecap.runtime.manifest import set_name
from edgecap.runtime.photo import PhotoSource
from edgecap.runtime.preprocess import load_damaged, normalize

Photo = PhotoSource | Prepared

CLOSED = "the captioner is closed: load another"


class Captioner:
    """A bundle in an engine, made by :func:`~edgecap.runtime.loading.load`. May be called from several threads at once.

    A forked process may call it too, and starts an engine of its own when it first does. Pickled, it is its bundle's
    directory, which the process that unpickles it opens.

    ``runtime`` (onnx or tflite) and ``precision`` are those of the graphs in use, ``threads`` those of the engine;
    ``notes`` says in one line each what :func:`~edgecap.runtime.loading.load` would have used if it could.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        precision: str,
        runtime: str = "onnx",
        threads: int = 1,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.bundle = bundle
        self.precision = precision
        self.runtime = runtime
        self.threads = threads
        self.notes = notes
        self._backend: Backend | None = backend
        self._place = bundle.path.absolute()  # wherever the process goes

    @property
    def calibration(self) -> Calibration | None:
        """What makes a confidence of a caption's probability; ``None`` when the bundle has nothing for its graphs."""
        confidence = self.bundle.confidence
        return confidence.sets.get(set_name(self.runtime, self.precision)) if confidence else None

    @property
    def backend(self) -> Backend:
        """The engine. Raises :class:`~edgecap.errors.EngineError` after :meth:`close`."""
        backend = self._backend  # another thread may close it now
        if backend is None:
            raise EngineError(CLOSED)
        return backend

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
        image, damage = load_damaged(photo, self.bundle.preprocess)
        tensor = normalize(np.asarray(image)[np.newaxis], self.bundle.preprocess)
        return Prepared(tensor, milliseconds_since(start), damage)

    def caption(
        self,
        photo: Photo,
        *,
        beam: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
        min_length: int | None = None,
        max_ms: float | Deadline | None = None,
    ) -> Caption:
        """Describe one photo: a path, bytes, a binary file, a PIL image, or a uint8 RGB array (H, W, 3).

        With ``max_ms`` the caption is ready about that many milliseconds after the call began, reading the photo
        included, or after the :class:`~edgecap.runtime.deadline.Deadline` began that stands in its place. The search
        ends before a decoder step that would be too late, with its best hypothesis so far; what the photo, the encoder
        and the first step take is always taken.

        Raises :class:`~edgecap.errors.ImageError` for a photo that cannot be read,
        :class:`~edgecap.errors.OptionError` for an option that cannot work, and
        :class:`~edgecap.errors.EngineError` for an engine that fails, and after :meth:`close`.
        """
        return self.caption_batch(
            [photo],
            beam=beam,
            max_length=max_length,
            length_penalty=length_penalty,
            min_length=min_length,
            max_ms=max_ms,
        )[0]

    def caption_batch(
        self,
        photos: Sequence[Photo],
        *,
        beam: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
        min_length: int | None = None,
        max_ms: float | Deadline | None = None,
    ) -> list[Caption]:
        """Describe several photos, which share the decoder steps; as :meth:`caption`, in the order of ``photos``.

        ``max_ms`` is for all of them together.

        The first photo that cannot be read raises its error and nothing is captioned: :meth:`prepare` photos that
        are in doubt one by one, and pass what it returns.
        """
        backend = self.backend
        deadline = max_ms if max_ms is None or isinstance(max_ms, Deadline) else Deadline(max_ms)
        options = self.options(beam=beam, max_length=max_length, length_penalty=length_penalty, min_length=min_length)
        prepared = [photo if isinstance(photo, Prepared) else self.prepare(photo) for photo in photos]
        if not prepared:
            return []
        start = time.perf_counter()
        encoded = backend.encode(np.concatenate([photo.tensor for photo in prepared]))  # (N, 3, S, S)
        self._check_dims(encoded)
        encoder_ms = milliseconds_since(start) / len(prepared)
        start = time.perf_counter()
        hypotheses = decode(backend, encoded, self.bundle.vocabulary, options, deadline)
        steps_ms = milliseconds_since(start) / len(prepared)
        return [
            self._caption(best, self._confidence(best, options), photo, encoder_ms, steps_ms)
            for photo, (best, *_) in zip(prepared, hypotheses, strict=True)
        ]

    def close(self) -> None:
        """Free the engine's memory, after the captions that other threads are making. Closing twice is harmless."""
        self._backend = None

    def __reduce__(self) -> tuple[Any, ...]:
        from edgecap.runtime.loading import reopened  # which imports this module

        if self._backend is None:
            raise EngineError(CLOSED)
        return reopened, (self._place, self.bundle.manifest.bundle_id, self.runtime, self.precision, self.threads)

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

    def _confidence(self, best: Hypothesis, options: DecodingOptions) -> float | None:
        calibration = self.calibration
        if calibration is None or (not best.finished and len(best.token_ids) < options.max_length):
            return None  # cut by the deadline; it was calibrated on sentences
        return calibration.probability(best.mean_log_prob)

    def _caption(
        self, best: Hypothesis, confidence: float | None, photo: Prepared, encoder_ms: float, steps_ms: float
    ) -> Caption:
        vocabulary = self.bundle.vocabulary
        side = math.isqrt(self.bundle.manifest.dims.locations)
        total_ms = photo.preprocess_ms + encoder_ms + steps_ms
        return Caption(
            text=vocabulary.sentence(best.token_ids),
            tokens=vocabulary.words(best.token_ids),
            token_ids=best.token_ids,
            log_prob=best.log_prob,
            attention=best.alphas.reshape(-1, side, side),  # (T, L) -> (T, 7, 7)
            timings=Timings(photo.preprocess_ms, encoder_ms, steps_ms, total_ms, best.steps),
            truncated=not best.finished,
            confidence=confidence,
            damaged=bool(photo.damage),
        )
