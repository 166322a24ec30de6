"""A JPEG for Pillow to decode, and how many of its rows are there when it was cut short."""

from __future__ import annotations

import io
import zlib
from typing import IO, cast

import numpy as np
from PIL import Image, JpegImagePlugin

from edgecap.runtime.photo.formats.jpeg import Jpeg

MIN_SHARE = 0.75  # of its rows, that a JPEG which was cut short must have
_END = b"\xff\xd9"
_TAIL = 48  # bytes, without which a cut one is decoded again


class _Parts(io.RawIOBase):
    """Several buffers, read as one file: a large photo is not copied."""

    def __init__(self, *parts: bytes | bytearray | memoryview) -> None:
        self._parts = [memoryview(part) for part in parts]
        self._place, self._size = 0, sum(map(len, parts))

    def read(self, size: int = -1) -> bytes:
        start, end = self._place, self._size if size < 0 else min(self._place + size, self._size)
        found, offset = [], 0
        for part in self._parts:
            found.append(part[max(start - offset, 0) : max(end - offset, 0)])
            offset += len(part)
        self._place = max(start, end)
        return b"".join(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = max(0, offset + (0, self._place, self._size)[whence])
        return self._place

    def tell(self) -> int:
        return self._place


def image_of(jpeg: Jpeg, draft_size: int | None, without: int = 0) -> Image.Image:
    """The image, not yet decoded; ``without`` so many of its last bytes. As Pillow's ``open``, it raises much."""
    # Not by Image.open, which refuses by the size of the whole what is decoded at a fraction.
    body = jpeg.body[: max(0, len(jpeg.body) - without)]
    image = JpegImagePlugin.JpegImageFile(cast(IO[bytes], _Parts(jpeg.head, body, _END)))
    if draft_size is not None and not jpeg.is_lossless:
        image.draft(None, (draft_size, draft_size))
    image.info.update({"exif": jpeg.exif} if jpeg.exif else {}, **({"xmp": jpeg.xmp} if jpeg.xmp else {}))
    return image


def share_of_rows(jpeg: Jpeg, image: Image.Image, draft_size: int | None) -> float:
    """How much of a JPEG that was cut short is there, from its top, 0 to 1; ``image`` is its, and is decoded.

    Where its data has ended, blocks are left grey. The last bytes are in the last block that there is: without them,
    what is decoded differs there, and neither above nor below.
    """
    if jpeg.has_all_rows:
        return 1.0
    if not jpeg.has_one_scan and len({index for scan in jpeg.scans for index in scan.components}) < len(jpeg.sampling):
        return 0.0
    found, shorter = _checksums(image), _checksums(image_of(jpeg, draft_size, without=_TAIL))
    different = np.flatnonzero(found != shorter)
    return (int(different[-1]) + 1) / len(found) if len(different) else 1.0


def _checksums(image: Image.Image) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    width, height = image.size
    rows = (image.crop((0, top, width, top + 1)).tobytes() for top in range(height))
    return np.fromiter((zlib.crc32(row) for row in rows), np.int64, height)
