"""What every command does that answers photos: each is read, answered and told in its turn."""

from __future__ import annotations

import itertools
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from edgecap.cli import fail, one_line
from edgecap.cli.photo_requests import Request, arrived, expand, prepare
from edgecap.errors import EXIT_FAILURE
from edgecap.runtime.answer import doubt
from edgecap.runtime.bundle.tasks import TASKS
from edgecap.runtime.caption import Prepared
from edgecap.runtime.loading import AUTO
from edgecap.runtime.machine.tuning import unreadable
from edgecap.runtime.model import Model

Answer = TypeVar("Answer")
Begin = Callable[[], Callable[[Sequence[Prepared]], Sequence[Answer]]]


@dataclass(frozen=True)
class Asked:
    """The photos asked for; ``bare`` where a single one is, and answers need not name it."""

    requests: Sequence[Request]
    bare: bool

    def line(self, path: str, text: str) -> str:
        """What is said of a photo."""
        return text if self.bare else f"{path}: {text}"


def requested(images: Sequence[str]) -> Asked:
    """The photos that the arguments of a command ask for."""
    requests = list(itertools.chain.from_iterable(expand(image) for image in images))
    return Asked(requests, len(images) == 1 and (len(requests) == 1 and requests[0].path == images[0]))


def tell_notes(model: Model[Any], engine: str, precision: str) -> None:
    """Say on stderr what would have been used if it could, and what could not be followed."""
    for note in model.notes:
        fail(note)
    if AUTO in (engine, precision) and (problem := unreadable()):
        fail(problem)


def answer(
    model: Model[Any],
    asked: Asked,
    batch_size: int,
    begin: Begin[Answer],
    lines: Callable[[str, Answer | str], Iterable[str]],
) -> None:
    """Answer all photos, and exit with a status when some failed.

    ``begin`` is called when the photos of a batch are there and none was read, and gives what answers them. ``lines``
    are those on stdout for a path with its answer, or with the problem, which stands on stderr as well.
    """
    # Pillow's remarks on odd photos are not for stderr; its errors still arrive as errors.
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    failed = checked = False
    for path, result in _answers(model, asked.requests, batch_size, begin):
        if isinstance(result, str):
            failed = True
            fail(f"{path}: {result}")
        for text in lines(path, result):
            click.echo(one_line(text))
        if not checked and not isinstance(result, str):  # after the first answer, which should not wait for it
            checked = True
            if problem := doubt(model):
                fail(problem)
    if failed:
        sys.exit(EXIT_FAILURE)


def _answers(
    model: Model[Any], requests: Iterable[Request], batch_size: int, begin: Begin[Answer]
) -> Iterator[tuple[str, Answer | str]]:
    """For each request, in order, its path with the answer or the problem."""
    all_the_same = f"{TASKS[model.task].done} all the same"
    remaining = iter(requests)
    while batch := list(itertools.islice(remaining, batch_size)):
        sources = [arrived(request) for request in batch]
        of = begin()  # no clock runs while a photo is on its way to stdin
        prepared = [prepare(model, *one) for one in zip(batch, sources, strict=True)]
        made = iter(of([photo for photo in prepared if isinstance(photo, Prepared)]))
        for request, photo in zip(batch, prepared, strict=True):
            if isinstance(photo, Prepared):
                if photo.damage:
                    fail(f"{request.path}: {photo.damage}; {all_the_same}")
                yield request.path, next(made)
            elif photo is not None:
                yield request.path, photo
