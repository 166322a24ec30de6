"""A photo's file, opened for Pillow to decode: by what it is, within every limit.

Every way in which Pillow fails on a bad file ends here, as an :class:`~edgecap.errors.ImageError`.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import IO, cast

from PIL import Image, UnidentifiedImageError

from edgecap.errors import ImageError, Source, UnreadFormatError
from edgecap.runtime.photo import kinds
from edgecap.runtime.photo.formats.jpeg import read_jpeg
from edgecap.runtime.photo.formats.jpeg2000 import check_jpeg2000
from edgecap.runtime.photo.formats.jpeg_rows import MIN_SHARE, image_of, share_of_rows
from edgecap.runtime.photo.formats.tiff import cost_of_tiff, read_directory, without_metadata
from edgecap.runtime.photo.kinds import Kind, kind_of
from edgecap.runtime.photo.limits import (
    MAX_COMMENTS,
    MAX_PART,
    Cost,
    MeteredFile,
    check,
    check_size,
    codec,
    cost_of_image,
    cost_of_jpeg,
    metered,
)

MIN_SIDE = 16

# The limit is enforced; a second opinion on stderr from half of it on helps nobody. A filter for good, because
# warnings.catch_warnings is not safe between threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# What Pillow's decoders raise on damaged data, as found by fuzzing them over the years.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError)
_DAMAGE_ELSEWHERE = (struct.error, zlib.error, RuntimeError, AssertionError)

_NO_PHOTO = "is not a photo that Pillow can read"


@dataclass(frozen=True)
class Opened:
    """A photo that was opened, ``image``, and in words what is missing of it, ``damage``; empty for a whole one."""

    image: Image.Image
    damage: str = ""


def opened_file(file: IO[bytes], name: Source, draft_size: int | None) -> Opened:
    """The photo in a seekable binary file. To be called, and used, within :func:`damage_named`."""
    stream = metered(file, name)
    head = stream.read(kinds.HEAD_BYTES)
    kind = kind_of(head)
    if kind is None:
        raise UnreadFormatError(name, "", _NO_PHOTO if head else "is empty")
    if not kind.is_read:
        raise UnreadFormatError(name, kind.name, kind.advice)
    if kind is kinds.JPEG:
        file.seek(0)
        return _opened_jpeg(file.read(stream.size), name, draft_size)  # without its size it would be copied
    image, cost = _opened(kind, stream)
    check_size(image)
    check_sides(image.size, name)
    check(cost + cost_of_image(image, stream.size), image.size)
    if codec(image) == "ppm_plain":
        _check_comments(stream)
    return Opened(image)


def _check_parts(file: MeteredFile) -> None:
    """Of a PNG. What is not pixels Pillow holds several times over."""
    place = 8
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        if length > MAX_PART and kind != b"IDAT":
            raise Image.DecompressionBombError(f"a part of it has {length >> 20} MB, {MAX_PART >> 20} are allowed")
        place += 12 + length


def _check_comments(file: MeteredFile) -> None:
    file.seek(0)
    comments = sum(content.count(b"#") for content in iter(lambda: file.read(2**20), b""))
    if comments > MAX_COMMENTS:
        raise ValueError(f"it has {comments} comments, {MAX_COMMENTS} are allowed")


def check_sides(size: tuple[int, int], name: Source) -> None:
    """Raise :class:`ImageError` for an image that is too small."""
    width, height = size
    if min(width, height) < MIN_SIDE:
        problem = f"{width} x {height} pixels is too small to describe (at least {MIN_SIDE} x {MIN_SIDE})"
        raise ImageError(name, problem)


def _opened(kind: Kind, file: MeteredFile) -> tuple[Image.Image, Cost]:
    """The image, not yet decoded, and what it takes beside what any of its format does."""
    stream, cost = cast(IO[bytes], file), Cost(0, 0.0)
    if kind is kinds.HEIC:
        file.seek(0)
        return cast(Image.Image, import_module("pi_heif").HeifImageFile(stream)), cost
    if kind is kinds.TIFF:
        cost = cost_of_tiff(read_directory(stream, file.size), stream)
    elif kind is kinds.PNG and file.size > MAX_PART:
        _check_parts(file)
    elif kind is kinds.JPEG_2000:
        check_jpeg2000(stream, file.size)
    # Else Pillow would import all of its formats to know those that it does not always have at hand.
    import_module(f"PIL.{_PLUGINS[kind.name]}ImagePlugin")
    image = Image.open(stream, formats=[str(kind.pillow)])
    if kind is kinds.TIFF:
        without_metadata(image)
    return image, cost


_PLUGINS = {
    "PNG": "Png", "WebP": "WebP", "GIF": "Gif", "BMP": "Bmp", "TIFF": "Tiff", "PPM": "Ppm", "AVIF": "Avif",
    "JPEG 2000": "Jpeg2K",
}  # fmt: skip


def _opened_jpeg(content: bytes, name: Source, draft_size: int | None) -> Opened:
    jpeg = read_jpeg(content)
    check_sides((jpeg.width, jpeg.height), name)
    image = image_of(jpeg, draft_size)
    check_size(image)
    cost = cost_of_jpeg(jpeg) + cost_of_image(image, len(content))
    if not jpeg.is_torn:
        check(cost, (jpeg.width, jpeg.height))
        return Opened(image)
    check(cost + cost, (jpeg.width, jpeg.height))  # decoded twice
    share = share_of_rows(jpeg, image, draft_size)
    if share < MIN_SHARE:
        problem = f"is truncated or damaged: {int(100 * share)}% of its rows are there, {MIN_SHARE:.0%} are needed"
        raise ImageError(name, problem)
    rows = "all" if share == 1 else f"{int(100 * share)}%"
    return Opened(image, f"is cut short: {rows} of its rows are there")


@contextmanager
def damage_named(name: Source) -> Iterator[None]:
    """The one place where Pillow's exceptions become :class:`ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(name, _NO_PHOTO) from error
    except Image.DecompressionBombError as error:
        raise ImageError(name, f"is too large to decode: {error}") from error
    except MemoryError as error:
        raise ImageError(name, "is too large to decode: not enough memory") from error
    except (*_DAMAGE, *_DAMAGE_ELSEWHERE) as error:
        raise ImageError(name, f"is truncated or damaged: {error}") from error
