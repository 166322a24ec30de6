"""Photos of every format and mode that Pillow writes, and what they become by damage: the same for the same number."""

from __future__ import annotations

import io
import itertools
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageDraw, features

from campaigns.photo_structures import change_directory, change_jpeg_header, repeat_scan

SIDES = (40, 24)  # pixels: width, height
INTERESTING = (0, 1, 2, 15, 16, 17, 127, 128, 255, 256, 4096, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31)

KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK")),
    ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "RGB", {"subsampling": 0, "restart_marker_blocks": 2, "comment": b"a comment"}),
    *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ("PNG", "RGB", {"transparency": (1, 2, 3)}),
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "RGBA", {"save_all": True}),
    *(("GIF", mode, {}) for mode in ("1", "L", "P")),
    ("GIF", "P", {"save_all": True, "comment": b"a comment"}),
    ("GIF", "P", {"transparency": 0, "interlace": 1}),
    *(("BMP", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")),
    *(("WEBP", mode, {"method": 0}) for mode in ("RGB", "RGBA")),
    ("WEBP", "RGBA", {"lossless": True, "method": 0}),
    ("WEBP", "RGB", {"save_all": True, "method": 0}),
    *(("TIFF", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16")),
    *(("TIFF", "RGB", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
    ("TIFF", "1", {"compression": "group4"}),
    ("TIFF", "RGB", {"big_tiff": True}),
    ("TIFF", "RGB", {"compression": "jpeg", "strip_size": 40 * 3 * 8}),
    *(("PPM", mode, {}) for mode in ("1", "L", "RGB")),
    *((("AVIF", mode, {"speed": 10}) for mode in ("RGB", "RGBA")) if features.check("avif") else ()),
    *((("JPEG2000", mode, {}) for mode in ("L", "RGB", "RGBA")) if features.check("jpg_2000") else ()),
)
WITH_EXIF = ("JPEG", "PNG", "WEBP", "TIFF")


def seeds() -> list[bytes]:
    """A small photo of every kind, most of them with EXIF data and a colour profile."""
    return [_saved(*kind) for kind in KINDS] + [_bmp_rle(), b""]


def _saved(file_format: str, mode: str, options: dict[str, Any]) -> bytes:
    image, options = _drawn(mode), dict(options)
    if options.get("save_all"):
        options["append_images"] = [image.transpose(Image.Transpose.ROTATE_180)]
    if file_format in WITH_EXIF and mode != "I;16":
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        exif[ExifTags.Base.Make] = "a camera"
        options |= {"exif": exif, "icc_profile": bytes(64)}
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def _drawn(mode: str) -> Image.Image:
    image = Image.new("RGB", SIDES, "navy")
    ImageDraw.Draw(image).ellipse((4, 4, 30, 20), fill="orange")
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.merge("LAB", image.split())
    return image.convert("RGBA").convert(mode) if mode in ("LA", "RGBA") else image.convert(mode)


def _bmp_rle() -> bytes:
    """A run-length encoded BMP, which Pillow reads but does not write."""
    width, height = SIDES
    rows = (bytes((width // 2, 1, width - width // 2, 2, 0, 0)) for _ in range(height))
    data = b"".join(rows) + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 4, 0)
    palette = bytes(range(16))
    offset = 14 + len(header) + len(palette)
    return struct.pack("<2sIHHI", b"BM", offset + len(data), 0, 0, offset) + header + palette + data


def mutated(photos: list[bytes], seed: int, number: int) -> bytes:
    """Photo ``number`` of the campaign ``seed``: one of ``photos``, damaged in one to four ways."""
    chance = random.Random(f"{seed} {number}")
    content = chance.choice(photos)
    for _ in range(chance.choice((1, 1, 2, 3, 4))):
        content = chance.choice(_DAMAGES)(content, chance, photos)
    return content


def _flip_bits(content: bytes, chance: random.Random, photos: list[bytes]) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        changed[_place(changed, chance)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _set_number(content: bytes, chance: random.Random, photos: list[bytes]) -> bytes:
    form = chance.choice(("<H", ">H", "<I", ">I", "B"))
    size = struct.calcsize(form)
    value = chance.choice((*INTERESTING, 2**32 - 1, chance.getrandbits(32))) % 256**size
    place = _place(content, chance)
    return content[:place] + struct.pack(form, value) + content[place + size :]


def _truncate(content: bytes, chance: random.Random, photos: list[bytes]) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _move_slice(content: bytes, chance: random.Random, photos: list[bytes]) -> bytes:
    first, last = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    part, place = content[first:last], chance.randrange(len(content) + 1)
    rest = chance.choice((content, content[:first] + content[last:]))
    times = chance.choice((0, 1, 1, 2, 8)) if len(content) < 20_000 else 0
    return rest[:place] + part * times + rest[place:]


def _insert_noise(content: bytes, chance: random.Random, photos: list[bytes]) -> bytes:
    place = _place(content, chance)
    return content[:place] + chance.randbytes(chance.choice((1, 2, 4, 64))) + content[place:]


def _splice(content: bytes, chance: random.Random, photos: list[bytes]) -> bytes:
    other = chance.choice(photos)
    return content[: chance.randrange(len(content) + 1)] + other[chance.randrange(len(other) + 1) :]


def _only_a_beginning(content: bytes, chance: random.Random, photos: list[bytes]) -> bytes:
    return content[: chance.choice((4, 8, 12, 16, 30, 64))] + chance.randbytes(chance.choice((16, 100, 1000)))


def _change_sides(content: bytes, chance: random.Random, photos: list[bytes]) -> bytes:
    """Have the header promise another size, wherever the size of a seed stands in it."""
    width, height = (chance.choice((*INTERESTING, 300, 12_000, chance.randrange(1, 20_000))) for _ in range(2))
    width, height = chance.choice(((width, height), (width, SIDES[1]), (SIDES[0], height)))
    changed = content
    for form in ("<I", ">I", "<H", ">H"):
        size = 256 ** struct.calcsize(form)
        for old, new in zip(SIDES, (width, height), strict=True):
            changed = changed.replace(struct.pack(form, old), struct.pack(form, new % size), 1)
    changed = changed.replace(_webp_sides(*SIDES), _webp_sides(width, height), 1)
    return _with_checksums(changed)


def _webp_sides(width: int, height: int) -> bytes:
    return b"".join(struct.pack("<I", (side - 1) % 2**24)[:3] for side in (width, height))


def _change_part(content: bytes, chance: random.Random, photos: list[bytes]) -> bytes:
    """Drop, repeat, move or damage a chunk of a PNG or WebP, or a segment of a JPEG, and keep the others whole."""
    parts = _parts(content)
    if len(parts) < 2:
        return _flip_bits(content, chance, photos)
    index = chance.randrange(1, len(parts))
    part = parts[index]
    action = chance.randrange(5)
    if action == 0:
        del parts[index]
    elif action == 1:
        parts[index:index] = [part] * chance.choice((1, 2, 50))
    elif action == 2:
        parts.insert(chance.randrange(1, len(parts)), parts.pop(index))
    elif action == 3:
        others = _parts(chance.choice(photos))
        parts.insert(index, chance.choice(others) if others else b"")
    else:
        parts[index] = _flip_bits(part, chance, photos)
    return _with_checksums(b"".join(parts))


def _place(content: bytes | bytearray, chance: random.Random) -> int:
    """Half of the damage goes into the headers, where it hurts."""
    limit = min(len(content), chance.choice((64, 256, len(content))))
    return chance.randrange(max(1, limit))


def _parts(content: bytes) -> list[bytes]:
    """What stands before the first part of a container, and its parts; none for another format."""
    if content.startswith(b"\x89PNG"):
        places = [8]
        while places[-1] + 12 <= len(content):
            places.append(places[-1] + 12 + struct.unpack_from(">I", content, places[-1])[0])
    elif content.startswith(b"RIFF"):
        places = [12]
        while places[-1] + 8 <= len(content):
            size = struct.unpack_from("<I", content, places[-1] + 4)[0]
            places.append(places[-1] + 8 + size + size % 2)
    elif content.startswith(b"\xff\xd8"):
        places = [2]
        while places[-1] + 4 <= len(content) and content[places[-1]] == 0xFF and content[places[-1] + 1] != 0xDA:
            places.append(places[-1] + 2 + struct.unpack_from(">H", content, places[-1] + 2)[0])
    else:
        return []
    places = [0, *places, len(content)]
    return [content[first:last] for first, last in itertools.pairwise(places) if first < last]


def _with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what is in them now; a WebP with its true size."""
    if content.startswith(b"RIFF") and len(content) > 8:
        return content[:4] + struct.pack("<I", len(content) - 8) + content[8:]
    if not content.startswith(b"\x89PNG"):
        return content
    beginning, *chunks = _parts(content) or [b""]
    return beginning + b"".join(
        chunk[:-4] + struct.pack(">I", zlib.crc32(chunk[4:-4])) if len(chunk) >= 12 else chunk for chunk in chunks
    )


_DAMAGES: tuple[Callable[[bytes, random.Random, list[bytes]], bytes], ...] = (
    _flip_bits,
    _flip_bits,
    _set_number,
    _set_number,
    _change_sides,
    _change_part,
    _change_part,
    _truncate,
    _move_slice,
    _insert_noise,
    _splice,
    _only_a_beginning,
    change_directory,
    change_directory,
    change_jpeg_header,
    repeat_scan,
)
