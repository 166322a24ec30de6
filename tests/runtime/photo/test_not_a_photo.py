"""What is no photo gets no sentence, and what is one gets it, however dark, foggy or flat."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, coloured, edgecap, encoded
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance
from places import CASES

from edgecap.runtime import Captioner, Prepared, load

RANDOM = np.random.default_rng(0)
SIZES = [(64, 64), (200, 150), (640, 480), (700, 100)]
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def plus() -> Captioner:
    return load(ROOT / "models" / "plus" / "bundle", engine="onnx", threads=1)


def saved(image: Image.Image, quality: int | None = None) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **({"format": "PNG"} if quality is None else {"format": "JPEG", "quality": quality}))
    return buffer.getvalue()


def noises(width: int, height: int) -> dict[str, Pixels]:
    shape = (height, width, 1)
    grey = {
        "even": RANDOM.integers(0, 256, shape),
        "normal": RANDOM.normal(128, 40, shape),
        "black and white": RANDOM.integers(0, 2, shape) * 255,
        "salt and pepper": np.where(RANDOM.random(shape) < 0.1, RANDOM.integers(0, 2, shape) * 255, 128),
    }
    made = {name: np.broadcast_to(values, (height, width, 3)) for name, values in grey.items()}
    made["colours"] = RANDOM.integers(0, 256, (height, width, 3))
    made["around a colour"] = RANDOM.normal((180, 60, 90), 30, (height, width, 3))
    return {name: np.clip(pixels, 0, 255).astype(np.uint8) for name, pixels in made.items()}


@pytest.mark.parametrize("quality", [None, 95, 75, 50])
@pytest.mark.parametrize("size", SIZES)
def test_noise_is_no_photo(plus: Captioner, size: tuple[int, int], quality: int | None) -> None:
    for name, pixels in noises(*size).items():
        assert plus.prepare(saved(Image.fromarray(pixels), quality)).reason == "not a photo: noise", name


@pytest.mark.parametrize("colour", ["black", "white", "red", "#7f7f80"])
@pytest.mark.parametrize("quality", [None, 90, 30])
def test_one_colour_is_no_photo(plus: Captioner, colour: str, quality: int | None) -> None:
    for size in SIZES:
        assert plus.prepare(saved(Image.new("RGB", size, colour), quality)).reason == "not a photo: one colour"
    covered = np.clip(RANDOM.normal(4, 1.5, (480, 640, 3)), 0, 255).astype(np.uint8)  # a lens cap, and the sensor
    assert plus.prepare(saved(Image.fromarray(covered), quality)).reason == "not a photo: one colour"


@pytest.mark.parametrize(("size", "strip"), [((2000, 17), True), ((20, 161), True), ((160, 20), False)])
def test_a_strip_is_no_photo(plus: Captioner, size: tuple[int, int], strip: bool) -> None:
    reason = plus.prepare(coloured("red", size)).reason
    assert reason == (f"not a photo: a strip of {size[0]} x {size[1]} pixels" if strip else None)


@pytest.mark.parametrize(("paper", "ink"), [("white", "#1f77dd"), ("#203080", "white"), ("black", "red")])
def test_a_flat_drawing_is_no_photo(plus: Captioner, paper: str, ink: str) -> None:
    large = Image.new("RGB", (2048, 2048), paper)
    ImageDraw.Draw(large).ellipse((300, 300, 1700, 1700), fill=ink)
    for side in (128, 256, 512):
        icon = large.resize((side, side), Image.Resampling.LANCZOS)
        assert plus.prepare(icon).reason == "not a photo: a flat drawing"


def test_photos_are_photos(plus: Captioner, real_photos: list[Path]) -> None:
    """Also in fog and at night, as thumbnails, and with another one's noise."""
    for path in real_photos:
        image = Image.open(path).convert("RGB")
        fog = Image.blend(image, Image.new("RGB", image.size, "#d0d0d0"), 0.8)
        night = ImageEnhance.Brightness(image).enhance(0.15)
        grain = np.clip(np.asarray(image) + RANDOM.normal(0, 20, (image.height, image.width, 1)), 0, 255)
        thumbnail = image.resize((64, 64))
        for kind in (image, fog, night, Image.fromarray(grain.astype(np.uint8)), thumbnail):
            assert plus.prepare(saved(kind, 85)).reason is None, path


def test_a_light_in_the_night_is_a_photo(plus: Captioner) -> None:
    night = Image.new("RGB", (640, 480), "black")
    moon = Image.fromarray(RANDOM.integers(150, 220, (12, 12, 3), np.uint8)).resize((60, 60))
    night.paste(moon, (300, 100))
    assert plus.prepare(saved(night, 90)).reason is None


def test_python_gets_an_empty_text_and_the_reason(captioner: Captioner) -> None:
    black, red = Image.new("RGB", (64, 48)), encoded("red")
    nothing, something, prepared = captioner.caption_batch([black, red, captioner.prepare(black)], n_best=2)
    assert (nothing.text, nothing.reason, nothing.tokens) == ("", "not a photo: one colour", ())
    assert nothing.confidence is None and nothing.n_best == () and nothing.attention.shape == (0, 2, 2)
    assert nothing.timings.steps == 0 and nothing.timings.total_ms == nothing.timings.preprocess_ms > 0
    assert prepared == nothing == captioner.caption(black)
    assert (something.text, something.reason) == ("A red photo.", None)
    assert captioner.caption(Prepared(captioner.prepare(black).tensor, 0.0)).text  # whoever knows better


def test_the_command_line_says_so(tiny_bundle: Path, photo: Callable[..., Path], tmp_path: Path) -> None:
    white, red = tmp_path / "white.png", photo("red.jpg", "red")
    Image.new("RGB", (64, 48), "white").save(white)
    arguments = ("caption", white, red, "--bundle", tiny_bundle)
    assert edgecap(*arguments) == (0, [f"{white}: not a photo", f"{red}: A red photo."], [])
    code, out, err = edgecap(*arguments, "--json")
    nothing, something = map(json.loads, out)
    assert (code, err) == (0, []) and nothing.keys() == something.keys()
    assert (nothing["caption"], nothing["reason"], nothing["log_prob"]) == (None, "not a photo: one colour", None)
    assert (something["caption"], something["reason"]) == ("A red photo.", None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("black.png", "one colour"),
        ("white.png", "one colour"),
        ("noise.jpg", "noise"),
        ("strip.jpg", "a strip of 2000 x 17 pixels"),
        ("icon256.png", "a flat drawing"),
    ],
)
def test_what_once_got_a_sentence(plus: Captioner, name: str, kind: str) -> None:
    if not CASES.is_dir():
        pytest.skip("the cases of the shared data folder are not here")
    assert plus.prepare(CASES / name).reason == f"not a photo: {kind}"
    assert plus.prepare(CASES / "whole.jpg").reason is None
