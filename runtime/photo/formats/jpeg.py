"""What stands in a JPEG's markers, read before anything of it is decoded, and the part of it that a decoder needs.

EXIF data, thumbnails, comments and colour profiles are left out of that part: they may be many, large and made to
harm, and only the orientation is wanted of them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_SEGMENTS = 250_000
MAX_SCANS = 100  # each goes over all its pixels; cameras and editors write ten
MAX_EXIF_PARTS = 64

_SEQUENTIAL, _LOSSLESS = (0xC0, 0xC1, 0xC9), (0xC3, 0xCB)
_PROGRESSIVE = (0xC2, 0xCA)
_ARITHMETIC = (0xC9, 0xCA, 0xCB)
_FRAMES = tuple(code for code in range(0xC0, 0xD0) if code not in (0xC4, 0xC8, 0xCC))
_DHT, _DAC, _SOI, _EOI, _SOS, _DQT, _DRI, _APP0, _APP1, _APP14 = (
    0xC4, 0xCC, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xEE,
)  # fmt: skip
_DECODED = (*_FRAMES, _DHT, _DAC, _SOS, _DQT, _DRI)  # what a decoder needs, beside two applications' segments
_AFTER_A_SCAN = (_DHT, _DAC, _SOS, _DQT, 0xDC, _DRI, *range(0xE0, 0xF0), 0xFE)
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


class JpegError(ValueError):
    """A JPEG whose markers cannot be followed, or are too many."""


@dataclass(frozen=True)
class Scan:
    """A pass over the pixels of some components."""

    components: tuple[int, ...]  # by their place in the frame
    blocks: int  # of 8 x 8 samples
    whole: bool  # a marker follows that may


@dataclass
class Jpeg:
    """A JPEG's frame and scans. ``head`` and ``body`` are what a decoder needs, up to the end marker and without it."""

    code: int = 0  # of the frame's marker
    width: int = 0
    height: int = 0
    sampling: list[tuple[int, int]] = field(default_factory=list)  # of each component, horizontal and vertical
    identifiers: list[int] = field(default_factory=list)
    scans: list[Scan] = field(default_factory=list)
    head: bytearray = field(default_factory=lambda: bytearray(b"\xff\xd8"))
    body: memoryview = field(default_factory=lambda: memoryview(b""))
    exif: bytes = b""
    xmp: bytes = b""
    is_torn: bool = False  # it ends within its data

    @property
    def is_progressive(self) -> bool:
        """Whether scans refine each other."""
        return self.code in _PROGRESSIVE

    @property
    def is_arithmetic(self) -> bool:
        """Whether it is coded arithmetically, which takes many times as long."""
        return self.code in _ARITHMETIC

    @property
    def is_lossless(self) -> bool:
        """Whether it is one of those that cannot be decoded at a fraction of its size."""
        return self.code in _LOSSLESS

    @property
    def has_one_scan(self) -> bool:
        """Whether it is decoded as it comes. Of others all coefficients are kept."""
        interleaved = bool(self.scans) and len(self.scans[0].components) == len(self.sampling)
        return interleaved and self.code in (*_SEQUENTIAL, *_LOSSLESS)

    @property
    def blocks(self) -> int:
        """Blocks of 8 x 8 samples in the frame."""
        across, down = self._units()
        return sum(across * down * horizontal * vertical for horizontal, vertical in self.sampling)

    @property
    def has_all_rows(self) -> bool:
        """Whether each component's first scan is whole: later ones only make it finer."""
        begun: set[int] = set()
        for scan in self.scans:
            if scan.whole:
                begun.update(scan.components)
        return begun == set(range(len(self.sampling)))

    def _most(self) -> tuple[int, int]:
        return max(across for across, _ in self.sampling), max(down for _, down in self.sampling)

    def _units(self) -> tuple[int, int]:
        most = self._most()
        return -(-self.width // (8 * most[0])), -(-self.height // (8 * most[1]))

    def blocks_of(self, components: tuple[int, ...]) -> int:
        """Blocks that a scan of these components goes over."""
        across, down = self._units()
        if len(components) > 1:
            return across * down * sum(self.sampling[index][0] * self.sampling[index][1] for index in components)
        most = self._most()
        horizontal, vertical = self.sampling[components[0]]
        across, down = -(-self.width * horizontal // (8 * most[0])), -(-self.height * vertical // (8 * most[1]))
        return across * down


def read_jpeg(content: bytes) -> Jpeg:
    """The frame, the scans and the needed part of a JPEG. Raises :class:`JpegError`."""
    jpeg = Jpeg()
    exif: list[bytes] = []
    count, place = 0, 2
    while not jpeg.scans:
        match = _MARKER.search(content, place)
        if match is None:
            raise JpegError("it ends before its picture begins")
        code, start = content[match.end() - 1], match.end() - 2
        place = match.end()
        count += 1
        if count > MAX_SEGMENTS:
            raise JpegError(f"its parts are too many: {MAX_SEGMENTS} are allowed")
        if 0xD0 <= code <= 0xD7 or code == 0x01:
            continue
        if code in (_SOI, _EOI):
            raise JpegError("it ends before its picture begins" if code == _EOI else "it begins twice")
        segment = _segment(content, place)
        place += 2 + len(segment)
        if code in _FRAMES:
            _read_frame(jpeg, code, segment)
        elif code == _APP1 and segment[: len(_EXIF)] == _EXIF:
            exif.append(bytes(segment))
        elif code == _APP1 and segment[: len(_XMP)] == _XMP and not jpeg.xmp:
            jpeg.xmp = bytes(segment[len(_XMP) :])
        if code == _SOS:
            _read_scans(jpeg, content, start, count)
        elif code in _DECODED or (code in (_APP0, _APP14) and segment[:5] in (b"JFIF\0", b"Adobe")):
            jpeg.head += content[start:place]
    if len(exif) > MAX_EXIF_PARTS:
        raise JpegError(f"its EXIF data has {len(exif)} parts, {MAX_EXIF_PARTS} are allowed")
    jpeg.exif = b"".join([*exif[:1], *(part[len(_EXIF) :] for part in exif[1:])])
    return jpeg


def _segment(content: bytes, place: int) -> bytes:
    """What follows a marker, without its length."""
    length = int.from_bytes(content[place : place + 2], "big")
    if length < 2 or place + length > len(content):
        raise JpegError("one of its parts reaches beyond its end")
    return content[place + 2 : place + length]


def _read_frame(jpeg: Jpeg, code: int, segment: bytes) -> None:
    if jpeg.code:
        raise JpegError("it has several frames")
    if len(segment) < 6 or len(segment) != 6 + 3 * segment[5] or not segment[5]:
        raise JpegError("its frame is of another length than it says")
    jpeg.code = code
    jpeg.height, jpeg.width = struct.unpack_from(">HH", segment, 1)
    jpeg.identifiers = list(segment[6::3])
    jpeg.sampling = [(each >> 4, each & 15) for each in segment[7::3]]
    if not all(1 <= factor <= 4 for factors in jpeg.sampling for factor in factors):
        raise JpegError("its components are sampled as none may be")
    if jpeg.width == 0 or jpeg.height == 0:
        raise JpegError("it has no size")


def _read_scans(jpeg: Jpeg, content: bytes, first: int, count: int) -> None:
    """All scans from the marker at ``first`` on; of a JPEG that is decoded as it comes, the only one."""
    if not jpeg.code:
        raise JpegError("its picture begins without a frame")
    end = place = first
    for code, start, place in _markers(content, first):
        end = start
        if code == _EOI:
            break
        count += 1
        if count > MAX_SEGMENTS or len(jpeg.scans) > MAX_SCANS:
            break
        if code in _FRAMES:
            raise JpegError("it has several frames")
        if code != _SOS:
            continue
        components = _components(jpeg, _segment(content, start + 2))
        match = _END_OF_SCAN.search(content, place)
        whole = match is not None and content[match.end() - 1] in (*_AFTER_A_SCAN, _EOI)
        jpeg.scans.append(Scan(components, jpeg.blocks_of(components), whole))
        # Downloads that were broken off, and what is recovered from disks, may go on as zeros.
        end = match.end() - 2 if match else _end_of(content)
        if jpeg.has_one_scan or not whole:
            jpeg.is_torn = not whole
            break
    else:
        jpeg.is_torn = True
    if len(jpeg.scans) > MAX_SCANS or count > MAX_SEGMENTS:
        raise JpegError(f"it has too many parts, {MAX_SCANS} scans are allowed")
    jpeg.body = memoryview(content)[first:end]


def _end_of(content: bytes) -> int:
    """Where the zeros begin that it ends with."""
    end = len(content)
    while end:
        start = max(0, end - 2**20)
        if kept := len(content[start:end].rstrip(b"\0")):
            return start + kept
        end = start
    return 0


def _markers(content: bytes, place: int) -> Iterator[tuple[int, int, int]]:
    """Of each marker from ``place`` on its code, where it begins and where its segment ends; to the last whole one."""
    while (match := _END_OF_SCAN.search(content, place)) is not None:
        code, start = content[match.end() - 1], match.end() - 2
        if code == _EOI:
            yield code, start, match.end()
            return
        if code not in (*_AFTER_A_SCAN, *_FRAMES):
            return
        try:
            place = match.end() + 2 + len(_segment(content, match.end()))
        except JpegError:
            return
        yield code, start, place


def _components(jpeg: Jpeg, segment: bytes) -> tuple[int, ...]:
    """Which of the frame's components a scan is of."""
    count = segment[0] if segment else 0
    if not 1 <= count <= 4 or len(segment) != 4 + 2 * count:
        raise JpegError("a scan's header is of another length than it says")
    named = [segment[1 + 2 * index] for index in range(count)]
    if len(set(named)) < count or not set(named) <= set(jpeg.identifiers):
        raise JpegError("a scan is of components that it has not")
    return tuple(jpeg.identifiers.index(name) for name in named)
