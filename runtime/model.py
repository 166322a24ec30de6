"""A bundle in an engine: what a captioner and a labeller have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

from edgecap.errors import EngineError, ImageError
from edgecap.runtime.arguments import one_of, photo_list
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.entries import GraphSet
from edgecap.runtime.bundle.tasks import TASKS
from edgecap.runtime.caption import Prepared, milliseconds_since
from edgecap.runtime.engines.engine import Loaded
from edgecap.runtime.photo.preprocess import look_and_load
from edgecap.runtime.photo.reading import PhotoSource

Photo = PhotoSource | Prepared

LoadedT = TypeVar("LoadedT", bound=Loaded)


class Model(Generic[LoadedT]):
    """May be called from several threads at once.

    A forked process may call it too, and starts an engine of its own when it first does. Pickled, it is its bundle's
    directory, which the process that unpickles it opens.

    ``graph_set`` is the one in use; ``engine`` (onnx or tflite) and ``precision`` say the same in words. ``threads``
    are those of the engine; ``notes`` says in one line each what :mod:`~edgecap.runtime.loading` would have used if it
    could.
    """

    task: ClassVar[str]

    def __init__(
        self,
        bundle: Bundle,
        graph_set: GraphSet,
        loaded: LoadedT,
        threads: int = 1,
        notes: tuple[str, ...] = (),
        reopen: Callable[..., Self] | None = None,
    ) -> None:
        """``reopen`` makes the model again where it is unpickled; without it, it cannot be pickled."""
        self.bundle = bundle
        self.graph_set = graph_set
        self.engine = graph_set.engine
        self.precision = graph_set.precision
        self.threads = threads
        self.notes = notes
        self._loaded: LoadedT | None = loaded
        self._reopen = reopen
        self._place = bundle.path.absolute()  # wherever the process goes

    @property
    def loaded(self) -> LoadedT:
        """The graphs in their engine. Raises :class:`~edgecap.errors.EngineError` after :meth:`close`."""
        loaded = self._loaded  # another thread may close it now
        if loaded is None:
            raise EngineError(self._closed())
        return loaded

    def _closed(self) -> str:
        return f"the {TASKS[self.task].noun} is closed: load another"

    def prepare(self, photo: PhotoSource) -> Prepared:
        """Read and preprocess a photo, to be used later. Raises :class:`~edgecap.errors.ImageError`."""
        start = time.perf_counter()
        tensor, reason, damage = look_and_load(photo, self.bundle.preprocess)
        return Prepared(tensor, milliseconds_since(start), damage, reason)

    def _prepare_all(self, photos: Iterable[Photo], on_error: str, single: str) -> list[Prepared | ImageError]:
        """Each photo prepared; one that cannot be read raises its error, or stands for it with ``on_error="return"``.

        ``single`` names the method that takes one photo. Raises :class:`~edgecap.errors.OptionError` for what are no
        photos.
        """
        several = photo_list(photos, single)
        one_of("on_error", on_error, ("raise", "return"))
        return [self._prepared(photo, on_error) for photo in several]

    def _prepared(self, photo: Photo, on_error: str) -> Prepared | ImageError:
        try:
            return photo if isinstance(photo, Prepared) else self.prepare(photo)
        except ImageError as error:
            if on_error == "raise":
                raise
            return error

    def close(self) -> None:
        """Free the engine's memory, after what other threads are making. Closing twice is harmless."""
        self._loaded = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._loaded is None or self._reopen is None:
            raise EngineError(self._closed())
        return self._reopen, (self._place, self.bundle.manifest.bundle_id, self.engine, self.precision, self.threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
