"""Photos that would cost a board its memory or its day are refused before they are decoded."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from campaigns.children import try_all
from campaigns.photo_mutations import SIDES, seeds
from conftest import ENVIRONMENT, edgecap_here, encoded
from PIL import Image
from places import CASES
from test_preprocess import CONFIG, saved

from edgecap.errors import ImageError
from edgecap.runtime.photo import limits as photo_limits
from edgecap.runtime.photo.formats.jpeg import MAX_EXIF_PARTS, MAX_SCANS
from edgecap.runtime.photo.limits import MAX_FILE_BYTES, MeteredFile
from edgecap.runtime.photo.preprocess import load_image

ATTACKS = CASES / "attack" / "photos"


def jpeg(width: int, height: int, progressive: bool = False) -> bytearray:
    """A grey JPEG that declares another size."""
    content = bytearray(saved(Image.new("RGB", (64, 64), "grey"), "JPEG", progressive=progressive))
    frame = content.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return content


def with_scans(width: int, height: int, count: int) -> bytes:
    content = jpeg(width, height, progressive=True)
    last = content.rindex(b"\xff\xda")
    scan = content[last : last + 2 + int.from_bytes(content[last + 2 : last + 4])]
    return bytes(content[:last] + scan * count + b"\xff\xd9")


def with_segments(segment: bytes, count: int) -> bytes:
    content = bytes(jpeg(64, 64))
    return content[:2] + segment * count + content[2:]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(chunk: bytes, count: int = 1) -> bytes:
    content = encoded("red", file_format="PNG")
    return content[:33] + chunk * count + content[33:]


def tiff_of_tags(count: int) -> bytes:
    """Each tag claims the whole file for itself."""
    size = 8 + 2 + 12 * count
    tags = b"".join(struct.pack("<HHII", 1000 + tag, 7, size, 0) for tag in range(count))
    return struct.pack("<2sHIH", b"II", 42, 8, count) + tags


def rle_bmp(side: int) -> bytes:
    """Each row is one pixel, and the rest left out."""
    data = b"\1\1\0\0" * side
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(data), 0, 0, 4, 0)
    return struct.pack("<2sIHHI", b"BM", 70 + len(data), 0, 0, 70) + header + bytes(16) + data


def webp_canvas(width: int, height: int) -> bytes:
    """Small frames on a large canvas."""
    frames = [Image.new("RGB", SIDES, colour) for colour in ("red", "blue")]
    content = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    old, new = (b"".join(struct.pack("<I", side - 1)[:3] for side in sides) for sides in (SIDES, (width, height)))
    return content.replace(old, new, 1)


def tiff(tags: dict[int, tuple[int, int, int]], data: bytes) -> bytes:
    """A grey TIFF of 64 x 64 pixels with these tags, of type, count and value, where 0 is the place of ``data``."""
    grey = {256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    strip = {273: (4, 1, 0), 278: (4, 1, 64), 279: (4, 1, 4096)}
    entries = sorted((grey | strip | tags).items())
    place = 8 + 2 + 12 * len(entries) + 4
    packed = (struct.pack("<HHII", tag, kind, count, value or place) for tag, (kind, count, value) in entries)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(packed) + bytes(4) + data


def rationals_in_exif() -> bytes:
    """In a directory of its own, to which the first one leads, and which has a million of them."""
    place = len(tiff({34665: (4, 1, 0)}, b""))
    directory = struct.pack("<HHHII", 1, 33434, 5, 1_000_000, place + 100)
    return tiff({34665: (4, 1, 0)}, directory.ljust(100, b"\0") + b"\1\0\0\0" * 2_000_000)


def jpeg_of_scans(code: int, width: int, height: int, components: int, scans: list[list[int]], data: bytes) -> bytes:
    """A JPEG that has a scan of each of these lists of components, and in each of them ``data``."""
    simple = bytes(jpeg(64, 64))
    tables = simple[simple.index(b"\xff\xdb") : simple.index(b"\xff\xc0")]
    tables += simple[simple.index(b"\xff\xc4") : simple.index(b"\xff\xda")]
    parts = b"".join(bytes((each, 0x11, 0)) for each in range(components))
    frame = struct.pack(">BBHBHHB", 0xFF, code, 8 + len(parts), 8, height, width, components) + parts
    coded = b""
    for scan in scans:
        named = b"".join(bytes((component, 0)) for component in scan)
        coded += struct.pack(">BBHB", 0xFF, 0xDA, 6 + len(named), len(scan)) + named + b"\0\x3f\0" + data
    return b"\xff\xd8" + tables + frame + coded + b"\xff\xd9"


# Blocks that are as the one before, of six bits in the tables above: four in three bytes.
FLAT = int("001010" * 4, 2).to_bytes(3, "big")


def gif_of_comments(size: int, count: int) -> bytes:
    content = encoded("red", file_format="GIF")
    place = content.index(b",", 13 + 3 * 2)
    return content[:place] + b"\x21\xfe" + (bytes((size,)) + b"x" * size) * count + b"\0" + content[place:]


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "scans": (lambda: with_scans(13_000, 13_000, 5000), f"{MAX_SCANS} scans are allowed"),
    "EXIF parts": (lambda: with_segments(b"\xff\xe1\0\x09Exif\0\0x", 200_000), f"parts, {MAX_EXIF_PARTS} are allowed"),
    "comments": (lambda: with_segments(b"\xff\xfe\0\x03x", 200_000), "(32, 32)"),
    "text": (lambda: png(png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**7)))), "damaged"),
    "many texts": (lambda: png(png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**19))), 200), "damaged"),
    "colour profile": (lambda: png(png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**7)))), "damaged"),
    "many chunks": (lambda: png(png_chunk(b"tEXt", b"a\0b"), 400_000), "its parts are too many"),
    "tags": (lambda: tiff_of_tags(60_000), ""),
    "EXIF tags of a PNG": (lambda: png(png_chunk(b"eXIf", tiff_of_tags(60_000))), "(32, 32)"),
    "strips": (lambda: tiff({273: (4, 10**6, 0), 279: (4, 10**6, 0)}, bytes(4 * 10**6)), "values of tag 273"),
    "strips as bytes": (lambda: tiff({273: (1, 10**7, 0)}, bytes(10**7)), "values of tag 273"),
    "rationals": (lambda: tiff({282: (5, 10**6, 0)}, b"\1\0\0\0" * 2 * 10**6), "values of tag 282"),
    "rationals in EXIF": (rationals_in_exif, "(32, 32)"),
    "colours": (lambda: tiff({262: (3, 1, 3), 320: (3, 10**7, 0)}, bytes(2 * 10**7)), "values of tag 320"),
    "one strip many times": (
        lambda: tiff({259: (3, 1, 5), 273: (4, 60_000, 0), 279: (3, 60_000, 0)}, b"\xff\xff" * 240_000),
        "its strips claim more than the file has",
    ),
    "LZMA": (lambda: tiff({259: (3, 1, 34925)}, bytes(4096)), "its compression, number 34925, is not read"),
    "arithmetic": (lambda: jpeg_of_scans(0xC9, 13_000, 13_000, 3, [[0, 1, 2]], b"\x55" * 500), "4 are allowed"),
    "components one by one": (
        lambda: jpeg_of_scans(0xC0, 13_377, 13_377, 4, [[0], [1], [2], [3]], b"\x55" * 500),
        "MB of memory",
    ),
    "comments of a GIF": (lambda: gif_of_comments(255, 40_000), "(32, 32)"),
    "small comments of a GIF": (lambda: gif_of_comments(1, 5_000_000), "its parts are too many"),
    "comments of a PPM": (
        lambda: b"P2 64 64 255\n" + b"#x\n" * 10**6 + b"7 " * 4096,
        "1000000 comments, 100 are allowed",
    ),
    "a large text": (lambda: png(png_chunk(b"iTXt", b"a\0\0\0\0\0" + bytes(10**8))), "a part of it has 95 MB"),
    "markers alone": (lambda: with_segments(b"\xff\xd0", 10**7), "its parts are too many"),
    "zeros after a torn end": (lambda: bytes(jpeg(64, 64))[:-2] + bytes(10**8), "is cut short"),
    "run lengths": (lambda: rle_bmp(13_000), "s on a desktop computer, 4 are allowed"),
}


def test_bombs_are_answered_in_time_and_in_bounds() -> None:
    """That is, those of the campaigns: five seconds of processor time, a gigabyte of memory."""
    bombs = [(name, make(), said) for name, (make, said) in BOMBS.items()]

    def attempt(number: int) -> str | None:
        name, content, expected = bombs[number]
        try:
            said = f"gives {load_image(content, CONFIG).size}"
        except ImageError as error:
            said = error.problem
        return None if expected in said else f"{name}: {said}"

    assert list(try_all(attempt, len(bombs))) == []


def test_a_large_jpeg_is_decoded_at_a_fraction() -> None:
    """Whatever its size: of 600 million pixels there are nine when it is decoded."""
    sides = 30_000, 20_000
    blocks = -(-sides[0] // 8) * (sides[1] // 8)
    image = load_image(jpeg_of_scans(0xC0, *sides, 1, [[0]], FLAT * (blocks // 4 + 1)), CONFIG)
    assert image.getpixel((16, 16)) == (128, 128, 128)


@pytest.mark.skipif(not ATTACKS.is_dir(), reason="no ../shared/cases")
def test_attacks_are_answered_in_time_and_in_bounds() -> None:
    photos = sorted(ATTACKS.iterdir())

    def attempt(number: int) -> str | None:
        try:
            load_image(photos[number], CONFIG)
        except ImageError as error:
            return None if "are allowed" in error.problem or "claim more" in error.problem else error.problem
        return None if photos[number].name == "exif4.jpg" else f"{photos[number].name} was read"

    assert list(try_all(attempt, len(photos))) == []


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_webp_of_a_huge_canvas_is_refused_before_it_is_drawn() -> None:
    with pytest.raises(ImageError, match=r"too large to decode: 13000 x 13000 pixels .* 1024 are allowed"):
        load_image(webp_canvas(13_000, 13_000), CONFIG)


def test_photos_as_they_are_taken_stay_within_every_limit() -> None:
    large = Image.effect_noise((1500, 1000), 50).convert("RGB")
    for file_format, options in (
        ("JPEG", {"progressive": True}),
        ("PNG", {"compress_level": 1}),
        ("TIFF", {}),
        ("BMP", {}),
    ):
        assert load_image(saved(large, file_format, **options), CONFIG).size == (32, 32)
    assert load_image(with_scans(64, 64, 80), CONFIG).size == (32, 32)


@pytest.mark.parametrize("file_format", ["EPS", "PDF", "ICO", "TGA"])
def test_other_formats_of_pillow_are_not_opened(file_format: str) -> None:
    """One of them would start Ghostscript."""
    with pytest.raises(
        ImageError,
        match=r"is not a photo that Pillow can read|is (EPS|PDF|ICO), which is not read here: save it as JPEG or PNG",
    ):
        load_image(saved(Image.new("RGB", (64, 64)), file_format), CONFIG)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    content = encoded("red")
    (tmp_path / "large.jpg").write_bytes(content)
    with (tmp_path / "large.jpg").open("r+b") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    code, out, err = edgecap_here("caption", tmp_path / "large.jpg")
    assert (code, out, err) == (1, [], [f"edgecap: {tmp_path / 'large.jpg'}: is too large to decode: more than 256 MB"])


def test_a_stream_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            assert 0 <= size <= 2000
            return bytes(size)

    for module in ("reading", "limits"):
        monkeypatch.setattr(f"edgecap.runtime.photo.{module}.MAX_FILE_BYTES", 1000)
    with pytest.raises(ImageError, match="is too large to decode"):
        load_image(Endless(), CONFIG)  # type: ignore[arg-type]


def test_the_meter_counts_reads_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_limits, "MAX_READS", 5)
    file = MeteredFile(io.BytesIO(bytes(1000)), "a.png", 1000)
    for _ in range(5):
        file.read(1)
    with pytest.raises(ImageError, match=r"^a\.png: is damaged: its parts are too many, or hold each other$"):
        file.read(1)


def test_a_damaged_tiff_is_one_line_on_stderr(tmp_path: Path) -> None:
    """Its library would write lines of its own there."""
    for number, content in enumerate(seeds()):
        if content[:2] == b"II":
            (tmp_path / f"{number:02}.tif").write_bytes(content[: len(content) // 2].ljust(len(content), b"\xaa"))
    count = len(list(tmp_path.iterdir()))
    command = [sys.executable, "-m", "edgecap", "caption", str(tmp_path)]
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    lines = run.stdout.splitlines() + run.stderr.splitlines()
    assert count > 10 and len(lines) == count and all(str(tmp_path) in line for line in lines)
