"""The main header of a JPEG 2000: what its decoder would build before and beside the pixels."""

from __future__ import annotations

import io
import struct
from typing import IO, Any

MAX_TILES = 4096
MAX_TILE_PARTS = 20_000
MAX_LAYERS = 256
MIN_CODE_BLOCK = 8  # exponents of both sides, added; of 64 x 64 samples they are 12
MIN_PRECINCT = 5  # exponent of each side; where none is stated, it is 15

_SIZ, _COD, _COC, _SOT, _SOD, _EOC = 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9


class Jpeg2000Error(ValueError):
    """A JPEG 2000 whose header is torn, or asks for too much."""


def check_jpeg2000(file: IO[bytes], size: int) -> None:
    """Raise :class:`Jpeg2000Error` for a codestream that is cut into more pieces than a photo is."""
    place = _codestream(file, size)
    file.seek(place + 2)
    components = parts = part_length = following = 0
    while True:
        start = file.tell()
        code, length = _marker(file)
        if code == _EOC:
            return
        if code == _SIZ:
            components = _check_size(file.read(length))
        elif code in (_COD, _COC):
            _check_coding(code, file.read(length), components)
        elif code == _SOT:
            parts += 1
            if parts > MAX_TILE_PARTS:
                raise Jpeg2000Error(f"more than {MAX_TILE_PARTS} parts of tiles")
            (_, part_length, _, _) = _unpack(">HIBB", file.read(length))
            following = start + part_length
        elif code == _SOD:
            if part_length < 14 or following >= size:
                return  # to the end of the file
            file.seek(following)
            continue
        file.seek(start + 4 + length if code != _SOD else following)


def _codestream(file: IO[bytes], size: int) -> int:
    """Where it begins: the file may be one, or hold it in a box."""
    file.seek(0)
    if file.read(4) == b"\xff\x4f\xff\x51":
        return 0
    place = 0
    for _ in range(1000):
        file.seek(place)
        length, kind = _unpack(">I4s", file.read(8))
        head = 8
        if length == 1:
            (length,), head = _unpack(">Q", file.read(8)), 16
        if kind == b"jp2c":
            return place + head
        if length < head or place + length > size:
            break
        place += length
    raise Jpeg2000Error("it has no codestream")


def _marker(file: IO[bytes]) -> tuple[int, int]:
    """A marker and the length of what belongs to it."""
    (code,) = _unpack(">H", file.read(2))
    if code in (_SOD, _EOC):
        return code, 0
    if code < 0xFF00:
        raise Jpeg2000Error("its header is torn")
    (length,) = _unpack(">H", file.read(2))
    if length < 2:
        raise Jpeg2000Error("its header is torn")
    return code, length - 2


def _check_size(segment: bytes) -> int:
    components: int
    _, right, bottom, _, _, width, height, left, top, components = _unpack(">H8IH", segment[:36])
    if not width or not height or right <= left or bottom <= top:
        raise Jpeg2000Error("it has no size")
    tiles = -(-(right - left) // width) * -(-(bottom - top) // height)
    if tiles > MAX_TILES or components > 4:
        raise Jpeg2000Error(f"{tiles} tiles of {components} components, {MAX_TILES} of 4 are allowed")
    return components


def _check_coding(code: int, segment: bytes, components: int) -> None:
    stream = io.BytesIO(segment)
    if code == _COC:
        stream.read(1 if components < 257 else 2)
    (style,) = _unpack(">B", stream.read(1))
    if code == _COD:
        _, layers, _ = _unpack(">BHB", stream.read(4))
        if not 1 <= layers <= MAX_LAYERS:
            raise Jpeg2000Error(f"{layers} layers, {MAX_LAYERS} are allowed")
    levels, across, down, _, _ = _unpack(">5B", stream.read(5))
    if across + down + 4 < MIN_CODE_BLOCK or levels > 32:
        raise Jpeg2000Error("its blocks are too many")
    if style & 1 and any(min(size & 15, size >> 4) < MIN_PRECINCT for size in stream.read(levels + 1)[1:]):
        raise Jpeg2000Error("its precincts are too many")


def _unpack(form: str, content: bytes) -> tuple[Any, ...]:
    try:
        return struct.unpack(form, content)
    except struct.error:
        raise Jpeg2000Error("its header is torn") from None
