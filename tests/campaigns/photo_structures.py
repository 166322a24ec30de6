"""Photos whose structure is damaged on purpose: directories of a TIFF or of EXIF data, headers and scans of a JPEG."""

from __future__ import annotations

import random
import struct

INTERESTING = (0, 1, 2, 3, 4, 7, 8, 16, 63, 64, 255, 256, 1024, 65_535, 65_536, 10**6, 2**31 - 1, 2**32 - 1)


def change_directory(content: bytes, chance: random.Random, photos: list[bytes]) -> bytes:
    """Change an entry of a TIFF's first directory, or of the one in another photo's EXIF data; or add or drop some."""
    starts = _directories(content)
    if not starts:
        return content
    base = chance.choice(starts)
    order = "<" if content[base : base + 2] == b"II" else ">"
    try:
        (place,) = struct.unpack_from(f"{order}I", content, base + 4)
        (count,) = struct.unpack_from(f"{order}H", content, base + place)
    except struct.error:
        return content
    first = base + place + 2
    entries = [content[first + 12 * index : first + 12 * index + 12] for index in range(min(count, 200))]
    entries = [entry for entry in entries if len(entry) == 12]
    if not entries:
        return content
    index, action = chance.randrange(len(entries)), chance.randrange(8)
    tag, kind, values, value = struct.unpack(f"{order}HHII", entries[index])
    if action == 0:
        kind = chance.choice((*range(15), 16, 17, 18, 255))
    elif action == 1:
        values = chance.choice((*INTERESTING, chance.randrange(1, 100)))
    elif action == 2:
        value = chance.choice((*INTERESTING, len(content), len(content) - 1, chance.randrange(len(content))))
    elif action == 3:
        tag = chance.choice((*range(254, 345), 34665, 34853, 40965, 347, 700, 34675))
    elif action == 4:
        values, kind = chance.choice(INTERESTING), chance.choice((1, 2, 3, 4, 5, 7, 12))
    elif action == 5:  # the next entry, of another
        other = entries[chance.randrange(len(entries))]
        return content[: first + 12 * index] + other + content[first + 12 * index + 12 :]
    elif action == 6:  # fewer or more entries than there are
        number = chance.choice((*INTERESTING, count - 1, count + 1)) % 65_536
        return content[: base + place] + struct.pack(f"{order}H", number) + content[base + place + 2 :]
    else:  # the directory begins elsewhere
        number = chance.choice((*INTERESTING, place + 12, chance.randrange(len(content))))
        return content[: base + 4] + struct.pack(f"{order}I", number) + content[base + 8 :]
    changed = struct.pack(f"{order}HHII", tag, kind, values, value)
    return content[: first + 12 * index] + changed + content[first + 12 * index + 12 :]


def change_jpeg_header(content: bytes, chance: random.Random, photos: list[bytes]) -> bytes:
    """Change the frame or a scan of a JPEG, which another format may hold: its kind, its components, what it covers."""
    places = [
        place
        for place in range(len(content) - 10)
        if content[place] == 0xFF and content[place + 1] in (*range(0xC0, 0xD0), 0xDA, 0xDD, 0xC4)
    ]
    if not places:
        return content
    changed, place = bytearray(content), chance.choice(places)
    action = chance.randrange(5)
    if action == 0 and changed[place + 1] != 0xDA:
        changed[place + 1] = chance.choice((*range(0xC0, 0xD0), 0xD8, 0xD9, 0xDA, 0xDC, 0xFE))
    elif action == 1:
        changed[place + 2 : place + 4] = struct.pack(">H", chance.choice(INTERESTING) % 65_536)
    elif action == 2:  # its sides, or a scan's components
        changed[place + 5 : place + 9] = struct.pack(">HH", *(chance.choice(INTERESTING) % 65_536 for _ in range(2)))
    elif action == 3:
        changed[place + 4 + chance.randrange(14) % (len(content) - place - 4)] = chance.choice(
            (0, 1, 2, 3, 4, 17, 34, 68, 255)
        )
    else:
        return repeat_scan(content, chance, photos)
    return bytes(changed)


def repeat_scan(content: bytes, chance: random.Random, photos: list[bytes]) -> bytes:
    """Have a JPEG's last scan again and again, or end within it, with or without an end marker."""
    start = content.rfind(b"\xff\xda")
    if start < 0:
        return content
    scan = content[start:].removesuffix(b"\xff\xd9")
    cut = scan[: chance.randrange(len(scan) + 1)]
    tail = chance.choice((b"", b"\xff\xd9", b"\xff", b"\xff\xc4\0\x13", b"\xff\x3c" + scan, bytes(100)))
    return content[:start] + chance.choice((cut + tail, scan * chance.choice((2, 20, 99, 101)) + tail))


def _directories(content: bytes) -> list[int]:
    """Where a TIFF may begin: the file itself, or what its EXIF data is."""
    found = [0] if content[:4] in (b"II*\0", b"MM\0*") else []
    for mark in (b"II*\0", b"MM\0*"):
        place = content.find(mark, 1)
        while place >= 0 and len(found) < 4:
            found.append(place)
            place = content.find(mark, place + 1)
    return found
