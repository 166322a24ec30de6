"""Reading a photo of any kind into 8-bit RGB.

Every way in which Pillow fails on a bad file ends here, as an :class:`~edgecap.errors.ImageError`.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edgecap.errors import ImageError, Source
from edgecap.runtime.photo_limits import FORMATS, MAX_FILE_BYTES, check_memory, check_size, metered
from edgecap.runtime.pixel_arrays import ACCEPTED, image_of

PhotoSource = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | NDArray[np.uint8] | NDArray[np.uint16]

MIN_SIDE = 16
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

# The limit above is enforced; a second opinion on stderr from half of it on helps nobody. A filter for good, because
# warnings.catch_warnings is not safe between threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# What Pillow's decoders raise on damaged data, as found by fuzzing them over the years.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError)
_DAMAGE_ELSEWHERE = (struct.error, zlib.error, RuntimeError, AssertionError)

_STRIP = 2**20  # pixels, about

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@contextmanager
def opened(source: PhotoSource, draft_size: int | None = None) -> Iterator[Image.Image]:
    """Open ``source`` and check its size, and map whatever fails in the ``with`` block to :class:`ImageError`.

    ``source`` is a path, the bytes of a file, a binary file, a PIL image, or an array of grey, RGB or RGBA pixels:
    uint8 or uint16, (H, W), (H, W, 3) or (H, W, 4).
    A JPEG is decoded at the smallest of its scales whose sides are both at least ``draft_size`` pixels.
    """
    name = source_name(source)
    with _stream(source, name) as stream, _damage_named(name, stream):
        image = _pil_image(source, stream)
        check_size(image)
        width, height = image.size
        if min(width, height) < MIN_SIDE:
            problem = f"{width} x {height} pixels is too small to describe (at least {MIN_SIDE} x {MIN_SIDE})"
            raise ImageError(name, problem)
        if stream is not None:  # an image of the caller's is not changed
            if draft_size is not None:
                image.draft(None, (draft_size, draft_size))
            check_memory(image, (width, height))
        yield image


def to_rgb(image: Image.Image) -> Image.Image:
    """``image`` as 8-bit RGB: transparency on white, deep grey scaled down, the first frame of an animation."""
    image.load()
    if image.mode == "F" or image.mode.startswith("I"):
        scale = _scale_to_eight_bit(image)
        return _by_strips(image, lambda strip: _eight_bit(strip, scale))
    if image.has_transparency_data:
        return _by_strips(image, _on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _by_strips(image: Image.Image, to_rgb: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """An RGB image, made strip by strip: what is in between would take several times the memory of both."""
    made = Image.new("RGB", image.size)
    for box in _strips(image):
        made.paste(to_rgb(image.crop(box)), box)
    return made


def _strips(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    width, height = image.size
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def _on_white(image: Image.Image) -> Image.Image:
    straight = image.convert("LA") if image.mode == "La" else image  # Pillow knows no way from La to RGBA
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, straight.convert("RGBA")).convert("RGB")


def upright(image: Image.Image, exif_orientation: int) -> Image.Image:
    """``image`` turned and mirrored to stand as the photographer saw it."""
    return image.transpose(_TRANSPOSE[exif_orientation]) if exif_orientation in _TRANSPOSE else image


def source_name(source: object) -> Source:
    """What errors call ``source``."""
    if isinstance(source, str | os.PathLike):
        return source
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return name if isinstance(name, str) else f"<{type(source).__name__}>"


def _scale_to_eight_bit(image: Image.Image) -> float:
    """Grey of 16 or 32 bits is taken as 0..65535; floats as 0..1, or as 0..255 when a value exceeds 1."""
    if image.mode != "F":
        return 1 / 257
    largest = max(float(_numbers(image.crop(box)).max()) for box in _strips(image))
    return 255.0 if largest <= 1.0 else 1.0


def _eight_bit(image: Image.Image, scale: float) -> Image.Image:
    grey = np.clip(np.rint(_numbers(image) * np.float32(scale)), 0, 255).astype(np.uint8)  # (H, W)
    return Image.fromarray(grey).convert("RGB")


def _numbers(image: Image.Image) -> NDArray[np.float32]:  # (H, W), finite
    numbers: NDArray[np.float32] = np.asarray(image).astype(np.float32)
    return np.nan_to_num(numbers, copy=False) if image.mode == "F" else numbers


@contextmanager
def _stream(source: PhotoSource, name: Source) -> Iterator[IO[bytes] | None]:
    """The file to decode; ``None`` for sources that are pixels already. Closes only what it opened."""
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        with _open(Path(source), name) as file:
            # Pillow needs to seek, and a pipe cannot.
            yield file if file.seekable() else io.BytesIO(file.read(MAX_FILE_BYTES + 1))
    elif isinstance(source, Image.Image | np.ndarray) or not hasattr(source, "read"):
        yield None
    else:
        yield _seekable(source, name)


def _seekable(file: Any, name: Source) -> IO[bytes]:
    """The caller's file, or what is in it where it cannot seek."""
    if isinstance(file, io.TextIOBase):
        raise ImageError(name, "is a text file: open it with the mode 'rb'")
    if getattr(file, "closed", False):
        raise ImageError(name, "is a closed file")
    if hasattr(file, "seekable") and file.seekable():
        return cast(IO[bytes], file)
    content = file.read(MAX_FILE_BYTES + 1)
    if not isinstance(content, bytes):
        raise ImageError(name, f"is no binary file: it reads {type(content).__name__}")
    return io.BytesIO(content)


def _open(path: Path, name: Source) -> IO[bytes]:
    if not os.fspath(name):  # whose path would be the working directory
        raise ImageError("''", "no such file")
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise ImageError(name, "no such file") from error
    except IsADirectoryError as error:
        raise ImageError(name, "is a directory") from error
    except PermissionError as error:
        raise ImageError(name, "no permission to read it") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ImageError(name, f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error


def _pil_image(source: PhotoSource, stream: IO[bytes] | None) -> Image.Image:
    if stream is not None:
        return Image.open(cast(IO[bytes], metered(stream, source_name(source))), formats=FORMATS)
    if isinstance(source, Image.Image):
        if _closed(source):
            raise ImageError(source_name(source), "is a closed image")
        return source
    if isinstance(source, np.ndarray) and (image := image_of(source)):
        return image
    kind = f"{source.dtype} {source.shape}" if isinstance(source, np.ndarray) else type(source).__name__
    accepted = f"a path, bytes, a binary file, a PIL image or a {ACCEPTED}"
    raise ImageError(source_name(source), f"is no photo: {kind}, where {accepted} is needed")


def _closed(image: Image.Image) -> bool:
    """Whether the pixels of an image are gone, or its file before they were read. Pillow has no public word for it."""
    pixels = getattr(image, "_im", image)
    return type(pixels).__name__ == "DeferredError" or (pixels is None and getattr(image, "fp", None) is None)


@contextmanager
def _damage_named(name: Source, stream: IO[bytes] | None) -> Iterator[None]:
    """The one place where Pillow's exceptions become :class:`ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        empty = stream is not None and stream.seek(0, io.SEEK_END) == 0
        raise ImageError(name, "is empty" if empty else "is not a photo that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise ImageError(name, f"is too large to decode: {error}") from error
    except MemoryError as error:
        raise ImageError(name, "is too large to decode: not enough memory") from error
    except (*_DAMAGE, *_DAMAGE_ELSEWHERE) as error:
        raise ImageError(name, f"is truncated or damaged: {error}") from error
