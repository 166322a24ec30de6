"""Photos in, labels out: a labeller's bundle loaded into an engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, overload

import numpy as np

from edgecap.errors import ImageError, OptionError
from edgecap.runtime.arguments import real_number, whole_number
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.entries import GraphSet
from edgecap.runtime.bundle.tasks import LABEL
from edgecap.runtime.caption import Prepared, milliseconds_since
from edgecap.runtime.engines.engine import Embedder, FloatArray
from edgecap.runtime.labels.label import Labels, LabelTimings
from edgecap.runtime.labels.table import MAX_LABELS, LabelTable
from edgecap.runtime.labels.text_side import TextSide
from edgecap.runtime.labels.vectors import unit_vectors
from edgecap.runtime.labels.wanted import Wanted, chosen, whole
from edgecap.runtime.model import Model, Photo

TOP = 5


class Labeller(Model[Embedder]):
    """A labeller's bundle in an engine, made by :func:`~edgecap.runtime.loading.load_labeller`.

    ``table`` has the labels that photos get, the bundle's or another of its space; ``text`` embeds words that it lacks.
    """

    task = LABEL

    def __init__(
        self,
        bundle: Bundle,
        graph_set: GraphSet,
        loaded: Embedder,
        threads: int = 1,
        notes: tuple[str, ...] = (),
        reopen: Callable[..., Labeller] | None = None,
        table: LabelTable | None = None,
        text: TextSide | None = None,
    ) -> None:
        super().__init__(bundle, graph_set, loaded, threads, notes, reopen)
        self.table = bundle.labels if table is None else table
        self.text = text
        self._all = whole(self.table)

    def choose(self, labels: Iterable[str] | Wanted | None = None) -> Wanted:
        """Labels to be given to :meth:`label` again and again: all of the table, or those with these names.

        A name is any of the table's, in whatever case; other words need a text side. Raises
        :class:`~edgecap.errors.OptionError`.
        """
        if labels is None:
            return self._all
        if not isinstance(labels, Wanted):
            return chosen(self.table, labels, self.text)
        if (labels.space, len(labels.columns)) != (self.table.space, self.table.width):
            raise OptionError(f"labels are of the space {labels.space!r}, not {self.table.space!r}: choose them anew")
        return labels

    def embed(self, photo: Photo) -> FloatArray:
        """The vector (E,) of a photo, float32, of length 1, whatever it shows; photos as for :meth:`label`.

        Its product with another photo's, or with one of the space's texts, is their similarity, from -1 to 1.
        """
        loaded = self.loaded
        prepared = photo if isinstance(photo, Prepared) else self.prepare(photo)
        embedding: FloatArray = self._embedded(loaded, [prepared])[0]
        return embedding

    def label(
        self,
        photo: Photo,
        labels: Iterable[str] | Wanted | None = None,
        *,
        top: int = TOP,
        threshold: float | None = None,
    ) -> Labels:
        """The likeliest labels of one photo: a path, bytes, a binary file, a PIL image, or an array of pixels.

        ``labels`` are names to choose among, or what :meth:`choose` made of them; without, all of the table. At most
        ``top`` are given, and only such as are right with a probability of at least ``threshold``, or of what the table
        holds to be enough for each. What is no photo has none, and why in ``Labels.reason``.

        Raises :class:`~edgecap.errors.ImageError` for a photo that cannot be read,
        :class:`~edgecap.errors.OptionError` for an option that cannot work, also for words that the table does not
        have, and :class:`~edgecap.errors.EngineError` for an engine that fails, and after :meth:`close`.
        """
        return self.label_batch([photo], labels, top=top, threshold=threshold)[0]

    @overload
    def label_batch(
        self,
        photos: Iterable[Photo],
        labels: Iterable[str] | Wanted | None = None,
        *,
        top: int = TOP,
        threshold: float | None = None,
        on_error: Literal["raise"] = "raise",
    ) -> list[Labels]: ...

    @overload
    def label_batch(
        self,
        photos: Iterable[Photo],
        labels: Iterable[str] | Wanted | None = None,
        *,
        top: int = TOP,
        threshold: float | None = None,
        on_error: Literal["return"],
    ) -> list[Labels | ImageError]: ...

    def label_batch(
        self,
        photos: Iterable[Photo],
        labels: Iterable[str] | Wanted | None = None,
        *,
        top: int = TOP,
        threshold: float | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> list[Labels] | list[Labels | ImageError]:
        """The labels of several photos, which share the encoder's run; as :meth:`label`, in the order of ``photos``.

        The first photo that cannot be read raises its error and nothing is labelled; with ``on_error="return"`` the
        error stands in the place of its labels.
        """
        loaded = self.loaded
        check_options(top, threshold)
        wanted = self.choose(labels)
        prepared = self._prepare_all(photos, on_error, "label()")
        made = self._labelled(loaded, prepared, wanted, top, threshold)
        return [photo if isinstance(photo, ImageError) else next(made) for photo in prepared]

    def _labelled(
        self,
        loaded: Embedder,
        prepared: Sequence[Prepared | ImageError],
        wanted: Wanted,
        top: int,
        threshold: float | None,
    ) -> Iterator[Labels]:
        """The labels of those that were read, in order."""
        read = [photo for photo in prepared if isinstance(photo, Prepared)]
        shown = [photo for photo in read if photo.reason is None]
        start = time.perf_counter()
        embedded = iter(self._embedded(loaded, shown))
        encoder_ms = milliseconds_since(start) / max(1, len(shown))
        for photo in read:
            if photo.reason is not None:
                timings = LabelTimings(photo.preprocess_ms, 0.0, 0.0, photo.preprocess_ms)
                yield Labels((), timings, bool(photo.damage), photo.reason)
                continue
            start = time.perf_counter()
            found = wanted.of(next(embedded), top, threshold)
            scoring_ms = milliseconds_since(start)
            total_ms = photo.preprocess_ms + encoder_ms + scoring_ms
            timings = LabelTimings(photo.preprocess_ms, encoder_ms, scoring_ms, total_ms)
            yield Labels(found, timings, bool(photo.damage))

    def _embedded(self, loaded: Embedder, photos: Sequence[Prepared]) -> FloatArray:
        """The unit vectors (N, E) of photos."""
        if not photos:
            return np.empty((0, self.table.width), np.float32)
        images = np.concatenate([photo.tensor for photo in photos])  # (N, 3, S, S)
        return unit_vectors(loaded.embed(images), "the graph")

    def __reduce__(self) -> tuple[Any, ...]:
        reopen, arguments = super().__reduce__()
        return reopen, (*arguments, None if self.table is self.bundle.labels else self.table, self.text)


def check_options(top: int, threshold: float | None) -> None:
    """Raise :class:`~edgecap.errors.OptionError` for what no call can work with."""
    whole_number("top", top, 1, MAX_LABELS)
    if threshold is not None:
        real_number("threshold", threshold, "between 0 and 1", 0, 1)
