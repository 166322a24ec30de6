"""What a file holds, by its first bytes: names lie, of `IMG.HEIC` that is a JPEG as of a JPEG without any suffix."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from PIL import features

HEAD_BYTES = 256  # that are looked at
_AS_JPEG = "save it as JPEG or PNG"


@dataclass(frozen=True)
class Kind:
    """A format, as people call it. ``pillow`` is Pillow's name of it where it may be read."""

    name: str
    pillow: str | None = None
    advice: str = _AS_JPEG  # what to do where it is not read
    feature: str | None = None  # of Pillow's build
    package: str | None = None  # that reads it

    @property
    def is_read(self) -> bool:
        """Whether it is read here."""
        if self.package is not None:
            return find_spec(self.package) is not None
        return self.pillow is not None and (self.feature is None or bool(features.check(self.feature)))


JPEG = Kind("JPEG", "JPEG")
PNG = Kind("PNG", "PNG")
WEBP = Kind("WebP", "WEBP", "pip install --force-reinstall pillow, whose wheels read it", "webp")
GIF = Kind("GIF", "GIF")
BMP = Kind("BMP", "BMP")
TIFF = Kind("TIFF", "TIFF")
PPM = Kind("PPM", "PPM")
AVIF = Kind("AVIF", "AVIF", "pip install --force-reinstall pillow, whose wheels read it", "avif")
JPEG_2000 = Kind("JPEG 2000", "JPEG2000", "pip install --force-reinstall pillow, whose wheels read it", "jpg_2000")
HEIC = Kind("HEIC", "HEIF", "pip install 'edgecap[heic]'", package="pi_heif")
APPLE_DOUBLE = Kind("AppleDouble", advice="it holds what macOS notes of another file, and no photo")

_BEGINNINGS = (
    (b"\xff\xd8", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"BM", BMP),
    (b"II\x2a\0", TIFF),
    (b"MM\0\x2a", TIFF),
    (b"II\x2b\0", TIFF),
    (b"MM\0\x2b", TIFF),
    (b"\xff\x4f\xff\x51", JPEG_2000),
    (b"\0\0\0\x0cjP  \r\n\x87\n", JPEG_2000),
    (b"\0\x05\x16\x07", APPLE_DOUBLE),
    (b"\xff\x0a", Kind("JPEG XL")),
    (b"\0\0\0\x0cJXL \r\n\x87\n", Kind("JPEG XL")),
    (b"8BPS", Kind("Photoshop")),
    (b"gimp xcf", Kind("GIMP")),
    (b"FUJIFILMCCD-RAW", Kind("camera raw")),
    (b"IIRO", Kind("camera raw")),
    (b"IIRS", Kind("camera raw")),
    (b"IIU\0", Kind("camera raw")),
    (b"FOVb", Kind("camera raw")),
    (b"v/1\x01", Kind("OpenEXR")),
    (b"#?RADIANCE", Kind("Radiance HDR")),
    (b"qoif", Kind("QOI")),
    (b"DDS ", Kind("DDS")),
    (b"\0\0\x01\0", Kind("ICO")),
    (b"%PDF-", Kind("PDF")),
    (b"%!PS", Kind("EPS")),
    (b"\xc5\xd0\xd3\xc6", Kind("EPS")),
    (b"<svg", Kind("SVG")),
)
_BRANDS = (  # of an ISO container, the major one first
    ((b"avif", b"avis"), AVIF),
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), HEIC),
    ((b"crx ",), Kind("camera raw")),
    ((b"qt  ", b"isom", b"iso2", b"mp41", b"mp42", b"M4V ", b"avc1", b"3gp4", b"3gp5"), Kind("video")),
)
_PPM = tuple(b"P%d%c" % (number, space) for number in range(1, 7) for space in b" \t\n\r#")


def kind_of(head: bytes) -> Kind | None:
    """The format of a file that begins with these bytes, of which :data:`HEAD_BYTES` are enough; ``None``: unknown."""
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return None if kind is BMP and len(head) < 26 else kind
    if head[:4] == b"RIFF":
        return WEBP if head[8:12] == b"WEBP" else Kind("video") if head[8:11] == b"AVI" else None
    if head[4:8] == b"ftyp":
        return _of_container(head)
    if head.startswith(_PPM):
        return PPM
    return Kind("SVG") if b"<svg" in head and head.lstrip().startswith(b"<?xml") else None


def _of_container(head: bytes) -> Kind | None:
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[place : place + 4] for place in range(16, end - 3, 4))]
    for brand in brands:
        for names, kind in _BRANDS:
            if brand in names:
                return kind
    return HEIC if b"mif1" in brands else None
