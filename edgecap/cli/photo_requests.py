"""The photos that the command line asks for: found, read, or said why not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecap.cli import fail
from edgecap.errors import ImageError, UnreadFormatError
from edgecap.runtime.caption import Prepared
from edgecap.runtime.machine.stderr import stderr_to
from edgecap.runtime.model import Model
from edgecap.runtime.photo.folder import Skipped, files_in
from edgecap.runtime.photo.limits import MAX_FILE_BYTES
from edgecap.runtime.photo.reading import PhotoSource

STDIN = "-"


@dataclass
class Folder:
    """A folder asked for: what was skipped in it, and whether there was anything else."""

    path: str
    skipped: Skipped
    has_photos: bool = False

    def skips(self, path: str, error: ImageError) -> bool:
        """Count a file that is of a format that is not read."""
        return isinstance(error, UnreadFormatError) and self.skipped.add(Path(path), error)

    def problem(self) -> str | None:
        """Say on stderr what was skipped, when all files were tried; what is wrong with the folder, in words."""
        found = f"skipped {self.skipped}" if self.skipped.counts else ""
        if not self.has_photos:
            return f"has no photos in it{found and f': {found}'}"
        if found:
            fail(f"{self.path}: {found}")
        return None


@dataclass(frozen=True)
class Request:
    """One photo asked for; ``problem`` says why there is none to read.

    ``folder`` is where it was found; a request for the folder itself comes after those for its files.
    """

    path: str
    problem: str | None = None
    folder: Folder | None = None


def expand(image: str) -> Iterator[Request]:
    """The photos that one argument asks for."""
    path = Path(image)
    try:
        is_dir, problem = path.is_dir(), "is a device, not a photo" if is_device(path) else None
    except OSError as error:  # a name that no file can have
        yield Request(image, f"cannot be opened: {error.strerror}")
        return
    if image == STDIN or not image or not is_dir:
        yield Request(image, problem if image else "no such file")
        return
    try:
        files, skipped = files_in(path)
    except OSError as error:
        yield Request(image, f"cannot be listed: {error.strerror}")
        return
    folder = Folder(image, skipped)
    yield from (Request(str(file), folder=folder) for file in files)
    yield Request(image, folder=folder)


def is_device(path: Path) -> bool:
    """Whether a path leads to a device, some of which have no end."""
    return path.is_char_device() or path.is_block_device()


def arrived(request: Request) -> PhotoSource | ImageError:
    """Where the photo is to be read from; of stdin, all that comes, or more than a photo may have."""
    if request.path != STDIN:
        return request.path
    if sys.stdin is None:
        return ImageError(STDIN, "stdin is closed")
    try:
        return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return ImageError(STDIN, f"stdin cannot be read: {error.strerror}")


def prepare(model: Model[Any], request: Request, source: PhotoSource | ImageError) -> Prepared | str | None:
    """The photo read from ``source`` and preprocessed, or the problem with it; ``None`` for what is skipped."""
    folder = request.folder
    if request.problem is not None:
        return request.problem
    if isinstance(source, ImageError):
        return source.problem
    if folder is not None and request.path == folder.path:
        return folder.problem()
    try:
        with no_remarks():
            photo: Prepared | str = model.prepare(source)
    except ImageError as error:
        if folder is not None and folder.skips(request.path, error):
            return None
        photo = error.problem
    if folder is not None:
        folder.has_photos = True
    return photo


@contextmanager
def no_remarks() -> Iterator[None]:
    """Keep off stderr what Pillow's TIFF library writes there, by itself, of a damaged photo."""
    with Path(os.devnull).open("wb") as nothing, stderr_to(nothing):
        yield
