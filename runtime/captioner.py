"""Photos in, captions out: a bundle loaded into an engine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, overload

import numpy as np

from edgecap.errors import ImageError
from edgecap.runtime.arguments import whole_number
from edgecap.runtime.bundle.confidence import Calibration
from edgecap.runtime.bundle.generation import DecodingOptions
from edgecap.runtime.bundle.tasks import CAPTION
from edgecap.runtime.caption import Caption, Prepared, milliseconds_since
from edgecap.runtime.engines.engine import Engine
from edgecap.runtime.model import Model, Photo
from edgecap.runtime.search.deadline import Deadline
from edgecap.runtime.search.decoding import Hypothesis, decode
from edgecap.runtime.telling import Teller


class Captioner(Model[Engine]):
    """A captioner's bundle in an engine, made by :func:`~edgecap.runtime.loading.load`."""

    task = CAPTION

    @property
    def calibration(self) -> Calibration | None:
        """What makes a confidence of a caption's probability; ``None`` when the bundle has nothing for its graphs."""
        confidence = self.bundle.confidence
        return confidence.sets.get(self.graph_set.name) if confidence else None

    def options(
        self,
        *,
        beam: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
        min_length: int | None = None,
        n_best: int | None = None,
    ) -> DecodingOptions:
        """The bundle's defaults with these changes. Raises :class:`~edgecap.errors.OptionError`."""
        options = self.bundle.generation.options(
            self.bundle.vocabulary,
            beam=beam,
            length_penalty=length_penalty,
            min_length=min_length,
            max_length=max_length,
            n_best=n_best,
        )
        longest = self.bundle.manifest.dims.get("max_length", options.max_length)
        whole_number("max_length", options.max_length, 1, longest)  # beyond it a cache of fixed length is full
        return options

    def caption(
        self,
        photo: Photo,
        *,
        beam: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
        min_length: int | None = None,
        n_best: int | None = None,
        max_ms: float | Deadline | None = None,
    ) -> Caption:
        """Describe one photo: a path, bytes, a binary file, a PIL image, or an array of pixels.

        An array is grey, RGB or RGBA, of 8 or 16 bits: uint8 or uint16, (H, W), (H, W, 3) or (H, W, 4). What is no
        photo, but one colour, noise, a strip or a flat drawing, gets an empty text, and why in ``Caption.reason``.

        With ``n_best`` the caption has that many sentences, or as many as the beam found, in ``Caption.n_best``.

        With ``max_ms`` the caption is ready about that many milliseconds after the call began, reading the photo
        included, or after the :class:`Deadline` began that stands in its place. The search
        ends before a decoder step that would be too late, with its best hypothesis so far; what the photo, the encoder
        and the first step take is always taken. Fewer than three words are no text, and ``Caption.reason`` says so.

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
            n_best=n_best,
            max_ms=max_ms,
        )[0]

    @overload
    def caption_batch(
        self,
        photos: Iterable[Photo],
        *,
        beam: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
        min_length: int | None = None,
        n_best: int | None = None,
        max_ms: float | Deadline | None = None,
        on_error: Literal["raise"] = "raise",
    ) -> list[Caption]: ...

    @overload
    def caption_batch(
        self,
        photos: Iterable[Photo],
        *,
        beam: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
        min_length: int | None = None,
        n_best: int | None = None,
        max_ms: float | Deadline | None = None,
        on_error: Literal["return"],
    ) -> list[Caption | ImageError]: ...

    def caption_batch(
        self,
        photos: Iterable[Photo],
        *,
        beam: int | None = None,
        max_length: int | None = None,
        length_penalty: float | None = None,
        min_length: int | None = None,
        n_best: int | None = None,
        max_ms: float | Deadline | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> list[Caption] | list[Caption | ImageError]:
        """Describe several photos, which share the decoder steps; as :meth:`caption`, in the order of ``photos``.

        ``max_ms`` is for all of them together.

        The first photo that cannot be read raises its error and nothing is captioned; with ``on_error="return"`` the
        error stands in the place of its caption.
        """
        loaded = self.loaded
        deadline = max_ms if max_ms is None or isinstance(max_ms, Deadline) else Deadline(max_ms)
        options = self.options(
            beam=beam, max_length=max_length, length_penalty=length_penalty, min_length=min_length, n_best=n_best
        )
        prepared = self._prepare_all(photos, on_error, "caption()")
        made = iter(self._captions(loaded, prepared, options, deadline, n_best is not None))
        return [photo if isinstance(photo, ImageError) else next(made) for photo in prepared]

    def _captions(
        self,
        loaded: Engine,
        prepared: Sequence[Prepared | ImageError],
        options: DecodingOptions,
        deadline: Deadline | None,
        alternatives: bool,
    ) -> Iterator[Caption]:
        """The captions of those that were read, in order."""
        read = [photo for photo in prepared if isinstance(photo, Prepared)]
        images = [photo.tensor for photo in read if photo.reason is None]
        teller = Teller(self.bundle, self.calibration, options)
        found: Iterator[list[Hypothesis]] = iter(())
        if images:
            start = time.perf_counter()
            encoded = loaded.encode(np.concatenate(images))  # (N, 3, S, S)
            encoder_ms = milliseconds_since(start) / len(images)
            start = time.perf_counter()
            found = iter(decode(loaded, encoded, self.bundle.vocabulary, options, deadline))
            teller = replace(teller, encoder_ms=encoder_ms, steps_ms=milliseconds_since(start) / len(images))
        for photo in read:
            yield teller.caption(photo, next(found), alternatives) if photo.reason is None else teller.nothing(photo)
