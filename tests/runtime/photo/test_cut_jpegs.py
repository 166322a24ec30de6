"""JPEGs that end too soon: captioned and marked where three quarters of their rows are there, refused where not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import coloured, edgecap
from PIL import Image
from places import CASES
from test_preprocess import CONFIG, gradient, saved

from edgecap.errors import ImageError
from edgecap.runtime import load
from edgecap.runtime.photo.formats.jpeg import read_jpeg
from edgecap.runtime.photo.preprocess import load_damaged, load_image


def textured(width: int = 480, height: int = 320) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 90, (height, width, 3), np.uint8)
    return Image.fromarray(np.asarray(gradient(width, height)) // 2 + noise)


def cut(content: bytes, share: float) -> bytes:
    """The header, and so much of what follows it."""
    start = content.index(b"\xff\xda")
    return content[: start + round((len(content) - start) * share)]


KINDS = {
    "baseline": {},
    "full colour": {"subsampling": 0, "quality": 95},
    "grey": {},
    "restarts": {"restart_marker_rows": 1},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.99, 0.9, 0.8])
def test_a_jpeg_with_most_of_its_rows_is_read_and_marked(kind: str, share: float) -> None:
    content = saved(textured().convert("L") if kind == "grey" else textured(), "JPEG", **KINDS[kind])
    image, damage = load_damaged(cut(content, share), CONFIG)
    there = int(damage.removeprefix("is cut short: ").partition("%")[0].replace("all of its rows are there", "100"))
    assert abs(there / 100 - share) < 0.08  # rows of blocks are 16 high, of 320
    top = round(32 * share) - 4
    assert np.abs(np.asarray(image)[:top].astype(int) - np.asarray(load_image(content, CONFIG))[:top]).mean() < 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6])
def test_a_jpeg_with_too_few_of_its_rows_is_refused(kind: str, share: float) -> None:
    content = saved(textured().convert("L") if kind == "grey" else textured(), "JPEG", **KINDS[kind])
    with pytest.raises(ImageError, match=r"is truncated or damaged: \d+% of its rows are there, 75% are needed"):
        load_damaged(cut(content, share), CONFIG)


def test_only_the_end_marker_is_missing() -> None:
    content = saved(textured(), "JPEG")
    for torn in (content[:-2], content[:-1], content[:-2] + bytes(5000), content[:-2] + b"\xff\x3c" + content[700:]):
        image, damage = load_damaged(torn, CONFIG)
        assert damage == "is cut short: all of its rows are there" and image == load_image(content, CONFIG)


def test_a_false_marker_within_the_data_is_damage_too() -> None:
    """A decoder stops there, and what is below is grey."""
    content = saved(textured(), "JPEG")
    start = content.index(b"\xff\xda") + 100
    torn = content[:start] + b"\xff\x3c" + content[start + 2 :]
    with pytest.raises(ImageError, match=r"truncated or damaged: \d% of its rows"):
        load_damaged(torn, CONFIG)


def test_a_progressive_jpeg_is_coarser_where_it_is_cut() -> None:
    """Its first scan has all rows: when that is whole, so are they."""
    content = saved(textured(), "JPEG", progressive=True)
    assert len(read_jpeg(content).scans) > 5
    _, damage = load_damaged(cut(content, 0.6), CONFIG)
    assert damage == "is cut short: all of its rows are there"
    start = content.index(b"\xff\xda")
    first = content.index(b"\xff\xc4", start) - start
    with pytest.raises(ImageError, match=r"\d+% of its rows are there, 75% are needed"):
        load_damaged(content[: start + first // 2], CONFIG)
    _, damage = load_damaged(content[: start + first], CONFIG)
    assert damage == "is cut short: all of its rows are there"


def test_it_is_cut_within_a_header() -> None:
    content = saved(textured(), "JPEG")
    for end in range(2, content.index(b"\xff\xda") + 8, 7):
        with pytest.raises(ImageError, match="is truncated or damaged"):
            load_damaged(content[:end], CONFIG)


def test_it_is_no_photo_for_training() -> None:
    """Where nobody would learn of it."""
    with pytest.raises(ImageError, match="is cut short"):
        load_image(cut(saved(textured(), "JPEG"), 0.95), CONFIG)


def test_the_command_line_and_python_say_so(tiny_bundle: Path, tmp_path: Path) -> None:
    content = saved(coloured("red", (480, 320)), "JPEG")
    (tmp_path / "a.jpg").write_bytes(content)
    (tmp_path / "b.jpg").write_bytes(content[:-2])
    code, out, err = edgecap("caption", tmp_path, "--json", "--bundle", tiny_bundle)
    whole, damaged = map(json.loads, out)
    assert (code, whole["damaged"], damaged["damaged"]) == (0, False, True)
    assert whole["caption"] == damaged["caption"] == "A red photo."
    assert err == [f"edgecap: {tmp_path / 'b.jpg'}: is cut short: all of its rows are there; captioned all the same"]
    with load(tiny_bundle) as captioner:
        assert captioner.caption(tmp_path / "b.jpg").damaged and not captioner.caption(tmp_path / "a.jpg").damaged


@pytest.mark.skipif(not CASES.is_dir(), reason="no ../shared/cases")
def test_cases() -> None:
    whole = np.asarray(load_image(CASES / "whole.jpg", CONFIG)).astype(int)
    for name in ("no_end_marker.jpg", "cut_99_percent.jpg"):
        image, damage = load_damaged(CASES / name, CONFIG)
        assert damage.startswith("is cut short") and np.abs(np.asarray(image) - whole).mean() < 2
    with pytest.raises(ImageError, match="75% are needed"):
        load_damaged(CASES / "cut_50_percent.jpg", CONFIG)
