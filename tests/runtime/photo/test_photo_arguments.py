"""What is passed as a photo in Python: arrays of every kind, and what is none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import coloured, encoded
from numpy.typing import NDArray
from PIL import Image

import edgecap.runtime
from edgecap.errors import BundleError, ImageError, OptionError
from edgecap.runtime import Captioner, load

RED = np.asarray(coloured("red"))  # (48, 64, 3)
GREY = np.asarray(coloured("grey").convert("L"))  # (48, 64)
OPAQUE = np.full((48, 64, 1), 255, np.uint8)


@pytest.mark.parametrize(
    ("array", "same_as"),
    [
        (GREY, GREY),
        (GREY[:, :, np.newaxis], GREY),
        (np.dstack([RED, OPAQUE]), RED),
        (RED.astype(np.uint16) * 257, RED),
        ((RED.astype(np.uint16) * 257).astype(">u2"), RED),
        (np.dstack([RED, OPAQUE]).astype(np.uint16) * 257, RED),
        (GREY.astype(np.uint16) * 257, GREY),
        (RED[::-1][::-1], RED),
    ],
)
def test_arrays_of_pixels(captioner: Captioner, array: NDArray[Any], same_as: NDArray[np.uint8]) -> None:
    wanted = captioner.prepare(Image.fromarray(same_as)).tensor
    np.testing.assert_array_equal(captioner.prepare(array).tensor, wanted)


def test_what_is_transparent_is_white(captioner: Captioner) -> None:
    clear = np.dstack([RED, np.linspace(0, 8, 48 * 64).reshape(48, 64, 1).astype(np.uint8)])
    assert captioner.prepare(clear).tensor.mean() > 1.9  # of 2


def closed(thing: Any) -> Any:
    thing.close()
    return thing


class Reader:
    """A file that cannot seek."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def read(self, size: int = -1) -> Any:
        return self._content


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (lambda: "", "no such file"),
        (lambda: None, "is no photo: NoneType, where a path, bytes"),
        (lambda: 5, "is no photo: int"),
        (lambda: [b"photo"], "is no photo: list"),
        (lambda: RED / 255, r"is no photo: float64 \(48, 64, 3\)"),
        (lambda: RED[:, :, :2], r"is no photo: uint8 \(48, 64, 2\)"),
        (lambda: RED[np.newaxis], r"is no photo: uint8 \(1, 48, 64, 3\)"),
        (lambda: RED[:0], "64 x 0 pixels is too small"),
        (lambda: closed(Image.new("RGB", (64, 48))), "is a closed image"),
        (lambda: closed(Image.open(io.BytesIO(encoded("red")))), "is a closed image"),
        (lambda: closed(io.BytesIO(encoded("red"))), "is a closed file"),
        (lambda: io.StringIO("photo"), "is a text file: open it with the mode 'rb'"),
        (lambda: Reader("photo"), "is no binary file: it reads str"),
    ],
)
def test_what_is_no_photo_at_all(captioner: Captioner, wrong: Any, problem: str) -> None:
    with pytest.raises(ImageError, match=problem):
        captioner.caption(wrong())


def test_files_and_images_that_are_open(captioner: Captioner, tmp_path: Path) -> None:
    path = tmp_path / "red.jpg"
    path.write_bytes(encoded("red"))
    with path.open() as text, pytest.raises(ImageError, match=r"red\.jpg: is a text file"):
        captioner.caption(text)  # type: ignore[arg-type]
    with Image.open(path) as image:
        image.load()
    with path.open("rb") as file:
        for photo in (file, image, Image.open(path), Reader(encoded("red")), Path(path), str(path)):
            assert captioner.caption(photo).text == "A red photo."  # type: ignore[arg-type]


@pytest.mark.parametrize("single", ["photo.jpg", Path("photo.jpg"), b"photo", RED, GREY, coloured("red"), None, 5, {}])
def test_one_photo_is_no_list_of_them(captioner: Captioner, single: Any) -> None:
    with pytest.raises(OptionError, match=r"photos must be a list of photos, not .*: for a single one"):
        captioner.caption_batch(single)


def test_many_photos_in_one_array(captioner: Captioner) -> None:
    red, blue = captioner.caption_batch(np.stack([RED, np.asarray(coloured("blue"))]))  # type: ignore[arg-type]
    assert (red.text, blue.text) == ("A red photo.", "A blue photo.")


def test_other_wrong_arguments_are_typed(captioner: Captioner) -> None:
    with pytest.raises(OptionError, match="on_error must be 'raise' or 'return', not 'ignore'"):
        captioner.caption_batch([RED], on_error="ignore")  # type: ignore[call-overload]
    with pytest.raises(BundleError, match="bundle: must be a name or a directory, not 5"):
        load(5)  # type: ignore[arg-type]
    numpy_numbers: dict[str, Any] = {"beam": np.int64(2), "length_penalty": np.float32(0.5)}
    assert captioner.caption(RED, **numpy_numbers).text == "A red photo."


def test_completion_shows_what_there_is() -> None:
    assert set(edgecap.runtime.__all__) <= set(dir(edgecap.runtime))
    assert {"load", "Caption", "Alternative"} <= set(edgecap.runtime.__all__)
    for name in edgecap.runtime.__all__:
        assert getattr(edgecap.runtime, name).__doc__
