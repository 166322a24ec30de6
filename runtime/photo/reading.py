"""Reading a photo of any kind into 8-bit RGB."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecap.errors import ImageError, Source
from edgecap.runtime.photo.file import Opened, check_sides, damage_named, opened_file
from edgecap.runtime.photo.limits import MAX_FILE_BYTES, check_size, raw_mode
from edgecap.runtime.photo.pixel_arrays import ACCEPTED, image_of

PhotoSource = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | NDArray[np.uint8] | NDArray[np.uint16]

DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners give a sample, whatever room it has in a file

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
def opened(source: PhotoSource, draft_size: int | None = None) -> Iterator[Opened]:
    """Open ``source``, check what it takes, and map whatever fails in the ``with`` block to :class:`ImageError`.

    ``source`` is a path, the bytes of a file, a binary file, a PIL image, or an array of grey, RGB or RGBA pixels:
    uint8 or uint16, (H, W), (H, W, 3) or (H, W, 4).
    A JPEG is decoded at the smallest of its scales whose sides are both at least ``draft_size`` pixels.
    """
    name = source_name(source)
    with _stream(source, name) as stream, damage_named(name):
        if stream is not None:
            yield opened_file(stream, name, draft_size)
            return
        image = _pil_image(source)
        check_size(image)
        check_sides(image.size, name)
        yield Opened(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """``image`` as 8-bit RGB: transparency on white, deep grey scaled down, the first frame of an animation."""
    is_deep = ";16" in raw_mode(image)  # which nothing tells any more when it is decoded
    image.load()
    if is_deep and image.mode in ("RGB", "RGBA"):
        image = _lifted(image)
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
    """Grey of 16 or 32 bits has as many as its largest value takes; floats are 0..1, or 0..255 when one exceeds 1."""
    largest = max(float(_numbers(image.crop(box)).max()) for box in _strips(image))
    if image.mode == "F":
        return 255.0 if largest <= 1.0 else 1.0
    return 255 / next((2**bits - 1 for bits in DEPTHS if largest < 2**bits), 65535)


def _lifted(image: Image.Image) -> Image.Image:
    """Colours of 10, 12 or 14 bits in 16, of which Pillow takes the upper eight: as bright as they were meant."""
    largest = max(highest for _, highest in cast(tuple[tuple[int, int], ...], image.getextrema())[:3])
    upper = next((2**bits for bits in (2, 4, 6) if 0 < largest < 2**bits), 256)
    if upper == 256:
        return image
    colours = [min(255, round(255 / (upper - 1) * value)) for value in range(256)] * 3
    return image.point(colours + (list(range(256)) if image.mode == "RGBA" else []))


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


def _pil_image(source: PhotoSource) -> Image.Image:
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
