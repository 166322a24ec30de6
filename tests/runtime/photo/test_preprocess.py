"""Photos of every kind, made into the encoder's input."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from places import ROOT

from edgecap.runtime.photo.preprocess import PreprocessConfig, load_image, normalize, to_tensor

BILINEAR = Image.Resampling.BILINEAR
CONFIG = PreprocessConfig(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0), size=32)


def gradient(width: int = 96, height: int = 64) -> Image.Image:
    """Red grows to the right, green downwards; blue marks the upper left corner."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    pixels[: height // 2, : width // 2, 2] = 200
    return Image.fromarray(pixels)


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def pixels_of(source: Any) -> np.ndarray[Any, Any]:
    image = load_image(source, CONFIG)
    assert image.mode == "RGB" and image.size == (32, 32)
    return np.asarray(image).astype(int)


def mean_colour(source: Any) -> list[float]:
    return [round(float(value)) for value in pixels_of(source).mean((0, 1))]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize(
    ("file_format", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("JPEG", {})],
)
def test_exif_orientation_is_followed(turn: int, file_format: str, options: dict[str, Any]) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    stored = saved(gradient(), file_format, exif=exif, **options)
    as_png = saved(gradient(), "PNG", exif=exif)
    assert np.abs(pixels_of(stored) - pixels_of(as_png)).mean() < 2


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_of_a_png_is_followed(turn: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    # What ImageOps would make upright, kept as the camera would store it.
    source = saved(gradient(), "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(source)))
    upright.info.pop("exif", None)
    assert np.abs(pixels_of(source) - pixels_of(upright)).max() <= 1
    ignoring = PreprocessConfig(mean=CONFIG.mean, std=CONFIG.std, size=32, exif_orientation=False)
    stored = np.asarray(load_image(source, ignoring)).astype(int)
    assert np.abs(stored - pixels_of(gradient())).max() == 0


def test_an_orientation_that_a_png_states_last_is_followed() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    source = saved(gradient(), "PNG", exif=exif)
    start = source.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(source[start : start + 4])
    moved = source[:start] + source[end:-12] + source[start:end] + source[-12:]
    assert moved != source and (pixels_of(moved) == pixels_of(source)).all()


def test_an_orientation_in_xmp_is_followed() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    turned = pixels_of(gradient())[::-1, ::-1]
    for file_format in ("JPEG", "WEBP"):
        assert np.abs(pixels_of(saved(gradient(), file_format, xmp=xmp)) - turned).mean() < 4
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    assert (pixels_of(saved(gradient(), "PNG", pnginfo=info)) == turned).all()


FORMS = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d", 13: "I"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_an_orientation_of_any_type_is_followed_as_pillow_does(order: str, kind: int, count: int) -> None:
    """Cameras write a SHORT; there are LONGs, and several."""
    form = order + FORMS[kind]
    values = [struct.pack(form, *((6, 1) if each == 0 else (3, 1))[: len(FORMS[kind])]) for each in range(count)]
    packed = b"".join(values)
    place = 8 + 2 + 12 + 4
    value = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(f"{order}I", place)
    entry = struct.pack(f"{order}HHHI", 1, ExifTags.Base.Orientation, kind, count) + value + bytes(4)
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    source = saved(gradient(), "JPEG", exif=b"Exif\0\0" + head + entry + (packed if len(packed) > 4 else b""))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(source)))
    upright.info.clear()
    assert np.abs(pixels_of(source) - pixels_of(upright)).mean() < 2


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_spoil_a_photo() -> None:
    source = saved(gradient(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.abs(pixels_of(source) - pixels_of(gradient())).mean() < 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_transparency_is_put_on_white(mode: str) -> None:
    clear = Image.new(mode, (40, 40), (0,) * len(Image.new(mode, (1, 1)).getbands()))
    assert mean_colour(clear) == [255, 255, 255]


def test_half_transparent_red_is_pink() -> None:
    assert mean_colour(saved(Image.new("RGBA", (40, 40), (255, 0, 0, 128)), "PNG")) == [255, 127, 127]


@pytest.mark.parametrize("file_format", ["GIF", "PNG"])
def test_a_transparent_palette_colour_is_white(file_format: str) -> None:
    image = Image.new("P", (40, 40), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    assert mean_colour(saved(image, file_format)) == [0, 0, 255]
    assert mean_colour(saved(image, file_format, transparency=1)) == [255, 255, 255]


def test_rgb_with_a_transparent_colour() -> None:
    assert mean_colour(saved(Image.new("RGB", (40, 40), (9, 8, 7)), "PNG", transparency=(9, 8, 7))) == [255] * 3


def test_cmyk() -> None:
    source = saved(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG")
    red, green, blue = mean_colour(source)
    assert red > 245 and green < 10 and blue < 10


@pytest.mark.parametrize(
    ("image", "grey"),
    [
        (Image.new("L", (40, 40), 77), 77),
        (Image.new("1", (40, 40), 1), 255),
        (Image.fromarray(np.full((40, 40), 100 * 257, np.uint16)), 100),
        (Image.fromarray(np.full((40, 40), 100 * 257, np.int32)), 100),
        (Image.fromarray(np.full((40, 40), 0.4, np.float32)), 102),
        (Image.fromarray(np.full((40, 40), 102.0, np.float32)), 102),
    ],
    ids=["8 bit", "1 bit", "16 bit", "32 bit", "float of 1", "float of 255"],
)
def test_grey_of_any_depth(image: Image.Image, grey: int) -> None:
    assert mean_colour(image) == [grey] * 3
    assert mean_colour(saved(image, "TIFF")) == [grey] * 3


def test_grey_png_of_16_bits_keeps_its_range() -> None:
    ramp = np.linspace(0, 65535, 40 * 40).reshape(40, 40).astype(np.uint16)
    pixels = pixels_of(saved(Image.fromarray(ramp), "PNG"))
    assert pixels.min() < 5 and pixels.max() > 250 and 120 < pixels.mean() < 135


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_grey_of_fewer_bits_than_it_could_have_is_not_black(bits: int, file_format: str) -> None:
    ramp = np.linspace(0, 2**bits - 1, 40 * 40).reshape(40, 40)
    wanted = np.linspace(0, 255, 40 * 40).reshape(40, 40)
    pixels = pixels_of(saved(Image.fromarray(ramp.astype(np.uint16)), file_format))
    assert np.abs(pixels - pixels_of(Image.fromarray(wanted.astype(np.uint8)).convert("RGB"))).max() <= 3
    assert mean_colour(saved(Image.fromarray(np.zeros((40, 40), np.uint16)), file_format)) == [0, 0, 0]


@pytest.mark.parametrize(("bits", "most"), [(10, 60), (12, 12), (14, 5), (16, 2)])
@pytest.mark.parametrize("alpha", [False, True])
def test_colour_of_fewer_bits_than_it_could_have_is_not_black(bits: int, most: int, alpha: bool) -> None:
    colours = np.asarray(gradient(64, 64)).astype(float) / 255 * (2**bits - 1)
    bands = [colours, np.full((64, 64, 1), 65535)] if alpha else [colours]
    rows = np.concatenate(bands, 2).astype(">u2")
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", 64, 64, 16, 6 if alpha else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    source = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in chunks
    )
    assert np.abs(pixels_of(source) - pixels_of(gradient(64, 64))).mean() < most


@pytest.mark.parametrize("file_format", ["GIF", "WEBP"])
def test_an_animation_is_its_first_frame(file_format: str) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "lime", "blue")]
    red, green, blue = mean_colour(saved(frames[0], file_format, save_all=True, append_images=frames[1:]))
    assert red > 245 and green < 10 and blue < 10


def test_a_large_jpeg_decoded_small_looks_the_same() -> None:
    noise = np.random.default_rng(0).integers(0, 60, (900, 1200, 3), np.uint8)
    large = Image.fromarray(np.asarray(gradient(1200, 900)) // 2 + noise)
    source = saved(large, "JPEG", quality=95)
    whole = Image.open(io.BytesIO(source)).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
    assert np.abs(pixels_of(source) - np.asarray(whole).astype(int)).mean() < 2


def test_a_jpeg_decoded_at_half_its_size_looks_the_same() -> None:
    astronaut = ROOT / "models" / "plus" / "bundle" / "golden" / "astronaut.png"
    source = saved(Image.open(astronaut), "JPEG", quality=95)  # 256 x 256 pixels, which become 128 x 128
    config = PreprocessConfig(mean=CONFIG.mean, std=CONFIG.std, size=80)
    drafted, exact = load_image(source, config), Image.open(io.BytesIO(source)).resize((80, 80), BILINEAR)
    assert drafted != exact and np.abs(np.asarray(drafted).astype(int) - np.asarray(exact)).mean() < 2


def test_pixels_of_the_right_size_are_not_touched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert (pixels_of(saved(Image.fromarray(pixels), "PNG")) == pixels).all()


def test_every_kind_of_source_gives_the_same(tmp_path: Path) -> None:
    content = saved(gradient(), "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    image = Image.open(path)
    with path.open("rb") as file:
        sources = [str(path), path, content, bytearray(content), file, image, np.asarray(gradient())]
        first, *others = [pixels_of(source) for source in sources]
    assert all((first == other).all() for other in others)


def test_a_jpeg_of_the_callers_is_not_changed() -> None:
    image = Image.open(io.BytesIO(saved(gradient(960, 640), "JPEG")))
    load_image(image, CONFIG)
    assert image.size == (960, 640)


def test_the_tensor_is_normalized_by_channel() -> None:
    tensor = to_tensor(np.full((32, 32, 3), (255, 0, 51), np.uint8), CONFIG)
    assert tensor.shape == (1, 3, 32, 32) and tensor.dtype == np.float32 and tensor.flags.c_contiguous
    np.testing.assert_allclose(tensor[0, :, 0, 0], [1.0, -1.0, 0.2], atol=1e-6)
    batch = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    wanted = ((batch / 255 - CONFIG.mean) / CONFIG.std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(normalize(batch, CONFIG), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0},
        {"filter": "lanczos"},
        {"resize": "crop"},
        {"std": [0, 1, 1]},
        {"mean": [1, 2]},
        {"layout": "NHWC"},
        {"size": "224"},
        {"exif_orientation": 1},
    ],
)
def test_a_config_that_is_not_implemented_is_refused(change: dict[str, Any]) -> None:
    assert PreprocessConfig.from_json(CONFIG.to_json()) == CONFIG
    with pytest.raises(ValueError, match=next(iter(change))):
        PreprocessConfig.from_json({**CONFIG.to_json(), **change})
