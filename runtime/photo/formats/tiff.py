"""A TIFF's first directory, read before Pillow opens it: what it claims is held against what the file has."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import IO

from PIL import Image

from edgecap.runtime.photo.formats.jpeg import JpegError, read_jpeg
from edgecap.runtime.photo.limits import Cost, cost_of_jpeg

MAX_TAGS = 4096
MAX_VALUES = 65_536  # of a tag that is read: strips, above all
MAX_COLOURS = 3 * 65_536
MAX_RATIONALS = 1024

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_FORMS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_TEXT, _RATIONALS = 2, (5, 10)
_STRUCTURE = range(254, 533)  # tags that say how the image lies in the file
_COLOURS = (301, 320)
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _ORIENTATION, _SAMPLES, _ROWS = 256, 257, 258, 259, 274, 277, 278
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES, _TILE_WIDTH, _TILE_LENGTH = 273, 279, 324, 325, 322, 323
_RAW, _JPEG = 1, 7
# None, CCITT, LZW, JPEG, deflate, PackBits, Zstandard. Old JPEG is seldom right, LZMA may ask for any memory.
_COMPRESSIONS = (_RAW, 2, 3, 4, 5, _JPEG, 8, 32773, 32946, 50000)


class TiffError(ValueError):
    """A TIFF whose directory is torn, or claims too much."""


@dataclass
class Directory:
    """The first directory: of each tag its type, the number of its values, and where they are."""

    order: str
    is_big: bool
    size: int  # of the file, in bytes
    tags: dict[int, tuple[int, int, bytes]] = field(default_factory=dict)

    def numbers(self, file: IO[bytes], tag: int) -> tuple[int, ...]:
        """The values of a tag; none where it is absent, or of a type that does not fit."""
        kind, count, place = self.tags.get(tag, (0, 0, b""))
        if kind not in _FORMS:
            return ()
        length = count * _SIZES[kind]
        if length > len(place):
            file.seek(self._offset(place))
            place = file.read(length)
            if len(place) < length:
                raise TiffError("its directory claims more than the file has")
        return struct.unpack_from(f"{self.order}{count}{_FORMS[kind]}", place)

    def number(self, file: IO[bytes], tag: int, default: int = 0) -> int:
        """The first value of a tag."""
        found = self.numbers(file, tag)
        return found[0] if found else default

    def _offset(self, place: bytes) -> int:
        offset = int(struct.unpack(f"{self.order}{'Q' if self.is_big else 'I'}", place)[0])
        if offset > self.size:
            raise TiffError("its directory claims more than the file has")
        return offset


def read_directory(file: IO[bytes], size: int) -> Directory:
    """The first directory of a TIFF of ``size`` bytes. Raises :class:`TiffError`."""
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}[head[:2]]
    is_big = struct.unpack_from(f"{order}H", head, 2)[0] == 43
    directory = Directory(order, is_big, size)
    if len(head) < 16:
        raise TiffError("it ends within its header")
    file.seek(directory._offset(head[8:16] if is_big else head[4:8]))
    count_bytes, entry = (8, f"{order}HHQ8s") if is_big else (2, f"{order}HHI4s")
    start = file.read(count_bytes)
    count = int.from_bytes(start, "little" if order == "<" else "big")
    if len(start) < count_bytes or count > MAX_TAGS:
        raise TiffError(f"{count} tags, {MAX_TAGS} are allowed" if start else "it has no directory")
    entries = file.read(count * struct.calcsize(entry))
    if len(entries) < count * struct.calcsize(entry):
        raise TiffError("it ends within its directory")
    claimed = 0
    for tag, kind, values, place in struct.iter_unpack(entry, entries):
        if tag in directory.tags or kind not in _SIZES:
            continue
        directory.tags[tag] = (kind, values, place)
        most = MAX_COLOURS if tag in _COLOURS else MAX_VALUES if tag in _STRUCTURE and kind != _TEXT else size
        if values > (min(most, MAX_RATIONALS) if kind in _RATIONALS else most):
            raise TiffError(f"{values} values of tag {tag}")
        length = values * _SIZES[kind]
        claimed += length if length > len(place) else 0
    if claimed > size:
        raise TiffError("its directory claims more than the file has")
    return directory


def cost_of_tiff(directory: Directory, file: IO[bytes]) -> Cost:
    """What it takes to decode it, beside the image. Raises :class:`TiffError`."""
    compression = directory.number(file, _COMPRESSION, _RAW)
    if compression not in _COMPRESSIONS:
        raise TiffError(f"its compression, number {compression}, is not read: save it uncompressed, or as PNG")
    width, height = directory.number(file, _WIDTH), directory.number(file, _LENGTH)
    turned = directory.number(file, _ORIENTATION, 1) != 1
    memory = 4 * width * height if turned else 0  # Pillow turns it when it is decoded
    offsets = directory.numbers(file, _TILES) or directory.numbers(file, _STRIPS)
    if compression == _RAW:
        return Cost(memory + 1000 * len(offsets), 20e-6 * len(offsets))
    counts = directory.numbers(file, _TILE_BYTES) or directory.numbers(file, _STRIP_BYTES)
    if sum(counts) > 2 * directory.size:
        raise TiffError("its strips claim more than the file has")
    bits = directory.numbers(file, _BITS)
    samples = max(1, directory.number(file, _SAMPLES, 1))
    for_pixel = -(-(sum(bits) if len(bits) > 1 else max(bits, default=1) * samples) // 8)
    sides = directory.number(file, _TILE_WIDTH), directory.number(file, _TILE_LENGTH)
    strip = width * min(height, directory.number(file, _ROWS, height) or height)
    held = sides[0] * sides[1] if all(sides) else strip
    cost = Cost(memory + directory.size + held * max(for_pixel, 4), 5e-9 * held)
    return cost + _cost_of_strips(file, offsets, counts) if compression == _JPEG else cost


def _cost_of_strips(file: IO[bytes], offsets: tuple[int, ...], counts: tuple[int, ...]) -> Cost:
    """What the JPEGs take that a TIFF's strips or tiles are."""
    memory, seconds = 0, 0.0
    if len(offsets) != len(counts):
        raise TiffError("it has not as many strips as it says")
    for offset, count in zip(offsets, counts, strict=True):
        file.seek(offset)
        try:
            cost = cost_of_jpeg(read_jpeg(file.read(count)))
        except JpegError as error:
            raise TiffError(f"a strip is no JPEG: {error}") from error
        memory, seconds = max(memory, cost.memory), seconds + cost.seconds + 30e-6
    return Cost(memory, seconds)


def without_metadata(image: Image.Image) -> None:
    """Have Pillow, which looks into all directories when it has decoded a TIFF, find its orientation and no more."""
    exif = image.getexif()
    for tag in list(exif):
        if tag != _ORIENTATION:
            del exif[tag]
