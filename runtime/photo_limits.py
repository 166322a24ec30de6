"""What a photo's file may cost: limits that hold before anything of it is decoded.

A few kilobytes can promise gigabytes of pixels, or hours of decoding; a board has neither.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import IO, Any

from PIL import Image

from edgecap.errors import ImageError, Source

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # Pillow has others, one of which starts Ghostscript
MAX_FILE_BYTES = 2**28
MAX_PIXELS = 178_956_970  # the number above which Pillow, too, refuses
MAX_MEMORY = 2**30  # bytes that decoding may take
MAX_SCANS = 100  # of a progressive JPEG, each of which goes over all its pixels; cameras and editors write ten
MAX_EXIF_PARTS = 64  # of a JPEG, which Pillow puts together one by one
MAX_RLE_PIXELS = 2**24  # of a run-length encoded BMP, which Pillow decodes in Python
MAX_READS = 1_000_000  # by which Pillow parses a file: some three for each chunk of a PNG

_SCAN = b"\xff\xda"
_EXIF_PART = re.compile(rb"\xff\xe1..Exif\0\0", re.DOTALL)
_BITS_PER_SAMPLE, _ORIENTATION, _TILE_WIDTH, _TILE_LENGTH = 258, 274, 322, 323  # tags of a TIFF


class MeteredFile:
    """A seekable binary file that may be read so often, and a few times over, and then raises :class:`ImageError`."""

    def __init__(self, file: IO[bytes], name: Source, size: int) -> None:
        self._file, self._name = file, name
        self._reads, self._bytes = MAX_READS, 4 * size + 2**20
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """As the file's own."""
        content = self._file.read(size)
        self._reads -= 1
        self._bytes -= len(content)
        if self._reads < 0 or self._bytes < 0:
            raise ImageError(self._name, "is damaged: its parts are too many, or hold each other")
        return content


def metered(file: IO[bytes], name: Source) -> MeteredFile:
    """``file`` for Pillow to open. Raises :class:`ImageError` where it is beyond a limit already."""
    size = file.seek(0, io.SEEK_END)
    if size > MAX_FILE_BYTES:
        raise ImageError(name, f"is too large to decode: more than {MAX_FILE_BYTES >> 20} MB")
    file.seek(0)
    if file.read(2) == b"\xff\xd8":
        file.seek(0)
        content = file.read()
        _check_jpeg(content, name)
        file = io.BytesIO(content)
    return MeteredFile(file, name, size)


def _check_jpeg(content: bytes, name: Source) -> None:
    scans = content.count(_SCAN)  # within a scan no such bytes can stand
    if scans > MAX_SCANS:
        raise ImageError(name, f"is too large to decode: {scans} scans, {MAX_SCANS} are allowed")
    parts = sum(1 for _ in _EXIF_PART.finditer(content))
    if parts > MAX_EXIF_PARTS:
        raise ImageError(name, f"is damaged: its EXIF data has {parts} parts, {MAX_EXIF_PARTS} are allowed")


def check_size(image: Image.Image) -> None:
    """Raise ``DecompressionBombError`` for an image with too many pixels."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Image.DecompressionBombError(f"{width} x {height} pixels are more than {MAX_PIXELS}")


def check_memory(image: Image.Image, full_size: tuple[int, int]) -> None:
    """Raise ``DecompressionBombError`` for an image that takes too much to decode.

    ``full_size`` is that of the file; a JPEG may be about to be decoded at a smaller one.
    """
    pixels = image.width * image.height
    memory = pixels * (4 if image.mode == "RGB" else 8)  # as decoded, and as RGB
    if image.format in ("JPEG", "MPO"):
        # The coefficients of all scans but the only one of a simple JPEG
        coefficients = full_size[0] * full_size[1] * len(image.getbands())
        memory += 2 * coefficients if "progressive" in image.info else 0
    elif image.format == "WEBP":
        memory += 12 * pixels  # two canvases, and the bytes of one
    elif image.format == "TIFF":
        memory += _memory_of_tiff(image, pixels)
    elif image.format == "BMP" and _codec(image) == "bmp_rle" and pixels > MAX_RLE_PIXELS:
        raise Image.DecompressionBombError(f"run-length encoded, and more than {MAX_RLE_PIXELS} pixels")
    if memory > MAX_MEMORY:
        size = f"{full_size[0]} x {full_size[1]}"
        most = f"{MAX_MEMORY >> 20} are allowed"
        raise Image.DecompressionBombError(f"{size} pixels of this kind take {memory >> 20} MB of memory, {most}")


def _memory_of_tiff(image: Image.Image, pixels: int) -> int:
    """What a TIFF takes beside itself: Pillow turns it when it is decoded, and its library holds a tile or strip."""
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    memory = 0 if tags.get(_ORIENTATION, 1) == 1 else 4 * pixels
    if _codec(image) != "libtiff":
        return memory
    sides, bits = [tags.get(tag) for tag in (_TILE_WIDTH, _TILE_LENGTH)], tags.get(_BITS_PER_SAMPLE)
    width, height = (side if isinstance(side, int) else 0 for side in sides)
    whole_bytes = all(type(each) is int for each in bits) if isinstance(bits, tuple) else False
    held = max(width * height, pixels)  # a strip may be the whole image
    return memory + held * (sum(bits) // 8 if bits and whole_bytes else 8)


def _codec(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    return str(tiles[0][0]) if tiles else ""
