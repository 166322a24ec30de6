"""Photos are what they hold, whatever they are called; formats that are not read are named, with what to do."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import edgecap, encoded
from PIL import features
from places import CASES, FIXTURES
from test_preprocess import CONFIG, gradient, saved

from edgecap.errors import ImageError, UnreadFormatError
from edgecap.runtime.photo import kinds as photo_kinds
from edgecap.runtime.photo.folder import photos_in
from edgecap.runtime.photo.preprocess import load_image

Photo = Callable[..., Path]
HEIC = FIXTURES / "gradient.heic"  # gradient(), by x265
A_HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
NAMES = ("photo.jfif", "photo.jpe", "photo.mpo", "IMG.HEIC", "photo", "photo.txt", "photo.tif")


def test_a_jpeg_under_any_name(tiny_bundle: Path, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(encoded("red"))
    code, out, err = edgecap("caption", tmp_path, "--bundle", tiny_bundle)
    assert (code, err) == (0, []) and out == [f"{tmp_path / name}: A red photo." for name in sorted(NAMES)]


@pytest.mark.parametrize(
    ("file_format", "feature", "options"),
    [
        ("AVIF", "avif", {"quality": 95}),
        ("JPEG2000", "jpg_2000", {}),
        ("JPEG2000", "jpg_2000", {"no_jp2": True}),
        ("PPM", None, {}),
        ("MPO", None, {"save_all": True}),
        ("TIFF", None, {"big_tiff": True}),
    ],
)
def test_formats_that_are_read(file_format: str, feature: str | None, options: dict[str, bool]) -> None:
    if feature and not features.check(feature):
        pytest.skip(f"this Pillow has no {feature}")
    image = np.asarray(load_image(saved(gradient(), file_format, **options), CONFIG)).astype(int)
    assert np.abs(image - np.asarray(load_image(saved(gradient(), "PNG"), CONFIG))).mean() < 5


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_ppm_of_any_kind(mode: str) -> None:
    wanted = np.asarray(load_image(gradient().convert(mode), CONFIG)).astype(int)
    assert np.abs(wanted - np.asarray(load_image(saved(gradient().convert(mode), "PPM"), CONFIG))).mean() < 1
    assert np.asarray(load_image(b"P2 # written by hand\n16 16\n15\n" + b"15 " * 256, CONFIG)).min() == 255


def test_heic() -> None:
    pytest.importorskip("pi_heif")
    image = np.asarray(load_image(HEIC, CONFIG)).astype(int)
    assert np.abs(image - np.asarray(load_image(gradient(), CONFIG))).mean() < 6
    with pytest.raises(ImageError, match="truncated or damaged"):
        load_image(HEIC.read_bytes()[:300], CONFIG)


@pytest.mark.parametrize(
    ("content", "kind", "advice"),
    [
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), "JPEG XL", "save it as JPEG or PNG"),
        (b"8BPS\0\1" + bytes(50), "Photoshop", "save it as JPEG or PNG"),
        (b"\0\0\0\x18ftypcrx \0\0\0\0" + bytes(50), "camera raw", "save it as JPEG or PNG"),
        (b"\0\0\0\x18ftypqt  \0\0\0\0" + bytes(50), "video", "save it as JPEG or PNG"),
        (b"<?xml version='1.0'?>\n<svg>", "SVG", "save it as JPEG or PNG"),
        (b"\0\5\x16\7\0\2\0\0" + bytes(50), "AppleDouble", "it holds what macOS notes of another file, and no photo"),
    ],
)
def test_formats_that_are_not_read_are_named(content: bytes, kind: str, advice: str) -> None:
    with pytest.raises(UnreadFormatError) as caught:
        load_image(content, CONFIG)
    assert (caught.value.kind, caught.value.advice) == (kind, advice)
    assert str(caught.value) == f"<bytes>: is {kind}, which is not read here: {advice}"


def without(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """As on a machine where something is not installed."""
    monkeypatch.setattr(photo_kinds, "find_spec", lambda package: None)
    monkeypatch.setattr(photo_kinds.features, "check", lambda feature: False)


def test_what_is_read_where_something_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "all")
    advice = r"is (HEIC, .* pip install 'edgecap\[heic\]'|AVIF, .* pip install --force-reinstall pillow)"
    for content in (A_HEIC, A_HEIC.replace(b"heic", b"avif")):
        with pytest.raises(UnreadFormatError, match=advice):
            load_image(content, CONFIG)


def test_what_a_folder_holds_and_is_not_captioned(tiny_bundle: Path, photo: Photo, tmp_path: Path) -> None:
    red = photo("red.jpg", "red")
    for name, content in {
        "a.psd": b"8BPS" + bytes(50), "b.psd": b"8BPS" + bytes(50), "notes.txt": b"words", "empty": b"",
        "c.jxl": b"\xff\x0a" + bytes(50),
        ".hidden.jpg": b"nothing", "._red.jpg": b"\0\5\x16\7" + bytes(50), "double": b"\0\5\x16\7" + bytes(50),
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    code, out, err = edgecap("caption", tmp_path, "--bundle", tiny_bundle)
    assert (code, out) == (0, [f"{red}: A red photo."])
    told = "2 Photoshop: save it as JPEG or PNG; 1 JPEG XL: save it as JPEG or PNG; 2 that are no photos"
    assert sorted(err[0].removeprefix(f"edgecap: {tmp_path}: skipped ").split("; ")) == sorted(told.split("; "))
    assert len(err) == 1


def test_a_folder_without_photos(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a.psd").write_bytes(b"8BPS" + bytes(50))
    code, out, err = edgecap("caption", tmp_path, "--bundle", tiny_bundle)
    problem = "has no photos in it: skipped 1 Photoshop: save it as JPEG or PNG"
    assert (code, out, err) == (1, [], [f"edgecap: {tmp_path}: {problem}"])


def test_a_file_that_is_called_a_photo_and_is_none_is_a_failure(tiny_bundle: Path, photo: Photo) -> None:
    red = photo("red.jpg", "red")
    (red.parent / "torn.jpg").write_bytes(bytes(1000))
    code, out, err = edgecap("caption", red.parent, "--bundle", tiny_bundle)
    assert (code, out) == (1, [f"{red}: A red photo."])
    assert err == [f"edgecap: {red.parent / 'torn.jpg'}: is not a photo that Pillow can read"]


@pytest.mark.parametrize("batch_size", [1, 8])
def test_pipes_sockets_and_devices_in_a_folder_are_never_opened(
    tiny_bundle: Path, photo: Photo, tmp_path: Path, batch_size: int
) -> None:
    red = photo("red.jpg", "red")
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's name has at most 107 characters
        listening.bind("socket.jpg")
        os.chdir(here)
        (tmp_path / "zero.jpg").symlink_to("/dev/zero")
        (tmp_path / "again.jpg").symlink_to(red)
        code, out, err = edgecap("caption", tmp_path, "--bundle", tiny_bundle, "--batch-size", batch_size)
        paths, skipped = photos_in(tmp_path)
    again = tmp_path / "again.jpg"
    assert (code, out) == (0, [f"{again}: A red photo.", f"{red}: A red photo."])
    assert err == [f"edgecap: {tmp_path}: skipped 3 that are no file"]
    assert paths == [again, red] and str(skipped) == "3 that are no file"


@pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases")
def test_cases() -> None:
    whole = np.asarray(load_image(CASES / "whole.jpg", CONFIG)).astype(int)
    for name in ("really_a_jpeg.HEIC", "no_suffix", "photo.jfif", "photo.avif", "photo.jp2", "cmyk.jpg"):
        assert np.abs(np.asarray(load_image(CASES / name, CONFIG)) - whole).mean() < 4, name
    paths, skipped = photos_in(CASES)
    assert str(skipped) in ("1 folder; 2 that are no photos", "2 that are no photos; 1 folder")
    assert "._resource.jpg" not in [path.name for path in paths]
