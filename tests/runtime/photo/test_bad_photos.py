"""Files, paths and objects that are no photos: always an ImageError of one line."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import encoded, png_header
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgecap.errors import ImageError
from edgecap.runtime.photo.preprocess import PreprocessConfig, load_image

CONFIG = PreprocessConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), size=32)
JPEG = encoded("red", (96, 64), "JPEG")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"no photo at all\n", "is not a photo that Pillow can read"),
        (JPEG[:400], "is truncated or damaged"),
        (JPEG[: len(JPEG) * 2 // 3], "is truncated or damaged"),
        (encoded("red", (96, 64), "PNG")[:90], "is truncated or damaged"),
        (encoded("red", (1, 1), "PNG"), r"1 x 1 pixels is too small to describe \(at least 16 x 16\)"),
        (png_header(30_000, 30_000), "900000000 pixels"),
    ],
    ids=["empty", "text", "cut early", "cut late", "cut png", "1 x 1", "bomb"],
)
def test_files_that_are_no_photos(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(ImageError, match=problem) as caught:
            load_image(source, CONFIG)
        assert "\n" not in str(caught.value)
    assert caught.value.source == path


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    wrong: list[tuple[Path | str, str]] = [
        (tmp_path / "no.jpg", "no such file"),
        (tmp_path, "is a directory"),
        ("a\0b", "cannot be"),
    ]
    for path, problem in wrong:
        with pytest.raises(ImageError, match=problem):
            load_image(path, CONFIG)


@pytest.mark.parametrize("source", [np.zeros((40, 40), np.int8), np.zeros((40, 40, 3), np.float32), 7, None])
def test_objects_that_are_no_photos(source: Any) -> None:
    with pytest.raises(ImageError, match="is no photo"):
        load_image(source, CONFIG)


def test_a_large_photo_below_the_limit_is_no_warning() -> None:
    with warnings.catch_warnings(record=True) as caught, pytest.raises(ImageError, match="truncated"):
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # as the import of photo.py does
        load_image(png_header(10_000, 10_000), CONFIG)
    assert not caught


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "ICO", "PCX", "TGA", "PPM", "SGI", "JPEG2000"]),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damage_is_an_image_error_or_nothing(file_format: str, damage: list[tuple[int, int]]) -> None:
    content = bytearray(encoded("red", (32, 32), file_format))
    for position, value in damage:
        # Half of the damage goes into the headers, where it hurts.
        content[position % (len(content) if position % 2 else 64)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ImageError):
            load_image(bytes(content), CONFIG)
