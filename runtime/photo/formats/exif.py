"""How a photo is turned: what the camera wrote into it, read at a bounded cost.

Pillow's own reading takes the whole directory of tags into memory, whatever sizes and places these claim.
"""

from __future__ import annotations

import re
import struct
from typing import Any

from PIL import ExifTags, Image

ORIENTATION = int(ExifTags.Base.Orientation)
UPRIGHT = 1
TURNED = range(2, 9)

# Of each type that the tag's value may have; cameras write it as SHORT, others as LONG, or as several.
_FORMS = {3: "H", 4: "I", 5: "2I", 6: "b", 8: "h", 9: "i", 10: "2i", 11: "f", 12: "d", 13: "I"}
_PREFIX = re.compile(rb"^(Exif\0\0){1,2}")
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 also for a photo whose EXIF data is absent or damaged."""
    try:
        found = _stated(image)
    except Exception:  # Pillow decodes a TIFF's tag now, and its errors share no base but Exception
        return UPRIGHT
    if found is None:
        xmp = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b""
        match = _XMP.search(xmp.encode(errors="replace") if isinstance(xmp, str) else xmp)
        found = int(match[1]) if match else UPRIGHT
    return int(found) if found in TURNED else UPRIGHT


def _stated(image: Image.Image) -> Any:
    """What the tag says, in EXIF data or in a TIFF's own; ``None`` without it."""
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        return tags.get(ORIENTATION)
    data = image.info.get("exif")
    if data is None and "Raw profile type exif" in image.info:  # hexadecimal after three lines, by ImageMagick
        data = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    return _tag(_PREFIX.sub(b"", data)) if data else None


def _tag(tiff: bytes) -> float | None:
    """The orientation in the first directory of tags, of any type of number, and of several the first, as Pillow's."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    (start,) = struct.unpack_from(f"{order}4xI", tiff)
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for index in range(count):
        place = start + 2 + 12 * index
        tag, kind, values = struct.unpack_from(f"{order}HHI", tiff, place)
        if tag != ORIENTATION or kind not in _FORMS or not values:
            continue
        form = order + _FORMS[kind]
        place += 8
        if values * struct.calcsize(form) > 4:
            (place,) = struct.unpack_from(f"{order}I", tiff, place)
        number, *divisor = struct.unpack_from(form, tiff, place)
        return float(number / divisor[0] if divisor else number)
    return None
