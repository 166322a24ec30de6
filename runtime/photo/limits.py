"""What a photo's file may cost: limits that hold before anything of it is decoded.

A few kilobytes can promise gigabytes of pixels, or hours of decoding; a board has neither.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO

from PIL import Image

from edgecap.errors import ImageError, Source
from edgecap.runtime.machine.facts import free_memory
from edgecap.runtime.photo.formats.jpeg import Jpeg

MAX_FILE_BYTES = 2**28
MAX_PIXELS = 178_956_970  # the number above which Pillow, too, refuses; a JPEG's at the size that it is decoded at
MAX_MEMORY = 2**30  # bytes that reading a photo may take, at most
SHARE_OF_MEMORY = 0.75  # of what the machine has free, that it may take
MAX_SECONDS = 4.0  # of a desktop's core, by the prices below
MAX_PART = 2**24  # bytes of a part of a PNG that is no pixels, which Pillow holds several times over
MAX_COMMENTS = 100  # of a PPM that is text; Pillow's time grows with their square
MAX_READS = 300_000  # by which Pillow parses a file: some three for each chunk of a PNG

_HARMLESS = 2**26  # bytes, below which nobody asks what is free
_STRIPS = 24 * 2**20  # bytes that converting takes beside both images, as it goes by strips

# What things take, in nanoseconds, measured on one core of a server of 2024 and rounded up; tests hold the memory.
_BLOCK, _ARITHMETIC_BLOCK, _LOSSLESS_BLOCK = 45, 1000, 1000  # of 8 x 8 samples of a JPEG, in each of its scans
_PIXEL = 5  # of a JPEG, at the size that it is decoded at
_BYTE, _PROGRESSIVE_BYTE = 10, 25  # of a JPEG's data
# By Pillow's name of a format, for a pixel, and for a byte of the file.
_FORMATS = {
    "PNG": (14, 0), "GIF": (10, 0), "BMP": (6, 0), "WEBP": (58, 0), "TIFF": (18, 0), "PPM": (6, 0),
    "AVIF": (60, 70), "JPEG2000": (50, 130), "HEIF": (90, 100),
}  # fmt: skip
# By Pillow's name of a decoder, for a pixel: these are in Python.
_DECODERS = {"bmp_rle": 250, "ppm_plain": 1300, "ppm": 1900}


@dataclass(frozen=True)
class Cost:
    """What reading a photo takes: bytes beside its file's own, and seconds of a desktop's core."""

    memory: int
    seconds: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.memory + other.memory, self.seconds + other.seconds)


class MeteredFile:
    """A seekable binary file that may be read so often, and a few times over, and then raises :class:`ImageError`."""

    def __init__(self, file: IO[bytes], name: Source, size: int) -> None:
        self._file, self._name, self.size = file, name, size
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
    """``file`` for Pillow to open. Raises :class:`ImageError` where it is too large already."""
    size = file.seek(0, io.SEEK_END)
    if size > MAX_FILE_BYTES:
        raise ImageError(name, f"is too large to decode: more than {MAX_FILE_BYTES >> 20} MB")
    file.seek(0)
    return MeteredFile(file, name, size)


def check_size(image: Image.Image) -> None:
    """Raise ``DecompressionBombError`` for an image with too many pixels."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Image.DecompressionBombError(f"{width} x {height} pixels are more than {MAX_PIXELS}")


def check(cost: Cost, size: tuple[int, int]) -> None:
    """Raise ``DecompressionBombError`` for an image of these sides that takes too much to decode."""
    sides = f"{size[0]} x {size[1]} pixels of this kind take"
    free = free_memory() if cost.memory > _HARMLESS else None
    most = MAX_MEMORY if free is None else min(MAX_MEMORY, int(SHARE_OF_MEMORY * free))
    if cost.memory > max(most, _HARMLESS):
        why = "are allowed" if most == MAX_MEMORY else "can be had here"
        raise Image.DecompressionBombError(f"{sides} {cost.memory >> 20} MB of memory, {most >> 20} {why}")
    if cost.seconds > MAX_SECONDS:
        raise Image.DecompressionBombError(
            f"{sides} {cost.seconds:.0f} s on a desktop computer, {MAX_SECONDS:.0f} are allowed"
        )


def cost_of_jpeg(jpeg: Jpeg) -> Cost:
    """What its coefficients take: decoding, but not the image that is made."""
    scanned = sum(scan.blocks for scan in jpeg.scans)
    price = _ARITHMETIC_BLOCK if jpeg.is_arithmetic else _LOSSLESS_BLOCK if jpeg.is_lossless else _BLOCK
    nanoseconds = scanned * price + len(jpeg.body) * (_PROGRESSIVE_BYTE if jpeg.is_progressive else _BYTE)
    # Two bytes for each coefficient; of a JPEG that is decoded as it comes, only for a row of blocks.
    return Cost(0 if jpeg.has_one_scan else 2 * 64 * jpeg.blocks, nanoseconds * 1e-9)


def cost_of_image(image: Image.Image, size: int) -> Cost:
    """What it takes to decode an image that was opened, of a file of ``size`` bytes, and to make it RGB."""
    pixels = image.width * image.height
    as_it_is = 4 if image.mode not in ("1", "L", "P", "I;16", "I;16B", "I;16L", "I;16N") else 2
    memory = pixels * (as_it_is if image.mode == "RGB" else as_it_is + 4)
    memory += _STRIPS if image.mode not in ("RGB", "L") else 0
    seconds = pixels * _conversion(image) * 1e-9
    if image.format == "JPEG":
        return Cost(memory + size, seconds + pixels * _PIXEL * 1e-9)
    for_pixel, for_byte = _FORMATS.get(str(image.format), (100, 0))
    for_pixel = max(for_pixel, _DECODERS.get(codec(image), 0))
    if ";16" in raw_mode(image):
        memory += 4 * pixels  # of another image, where it has fewer bits than it could
    if ";16" in raw_mode(image) or "interlace" in image.info:
        for_pixel *= 2
    if image.format in ("WEBP", "AVIF", "HEIF"):
        # The file, two canvases or planes of ten bits, and the bytes of one canvas
        memory += size + 12 * pixels
    elif image.format == "JPEG2000":
        memory += size + pixels * 4 * 2 * len(image.getbands())
    elif codec(image) == "ppm_plain":
        memory += 100 * pixels
    elif codec(image) == "ppm":
        memory += 8 * pixels
    return Cost(memory, seconds + (pixels * for_pixel + size * for_byte) * 1e-9)


def _conversion(image: Image.Image) -> int:
    """What making a pixel RGB and small takes, in nanoseconds."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return 2
    if image.mode == "LAB":
        return 40
    return 6 if image.mode in ("1", "L", "CMYK", "YCbCr") else 16


def codec(image: Image.Image) -> str:
    """Pillow's name of the decoder that an image waits for; empty for one that is decoded."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0][0]) if tiles else ""


def raw_mode(image: Image.Image) -> str:
    """Pillow's name of the way in which the samples of an image that waits to be decoded lie in its file."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    found = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return found if isinstance(found, str) else ""
