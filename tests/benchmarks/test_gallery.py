"""A page of photos with what models say of them: it holds all it shows, and says why a photo has no sentence."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from tiny_dataset import write_photos

from edgecap.benchmarks.gallery import main

ROOT = Path(__file__).parents[2]
PLUS = ROOT / "models" / "plus"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_photos(tmp_path_factory.mktemp("gallery") / 'holidays & "sun"', 3)
    Image.new("RGB", (900, 600), "white").save(folder / "blank.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    target = folder.parent / "page.html"
    result = CliRunner().invoke(main, [str(folder), "-o", str(target), "--models", str(PLUS), "--most", "5"])
    assert result.exit_code == 0, result.output
    return target.read_text(encoding="utf-8")


def test_every_photo_is_in_the_page_and_small(page: str) -> None:
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    sizes = [Image.open(io.BytesIO(base64.b64decode(content))).size for content in pictures]
    assert len(sizes) == 4 and all(width <= 320 for width, _ in sizes)
    assert "http" not in page and "5 photos: holidays &amp; &quot;sun&quot;" in page


def test_a_sentence_or_the_reason_stands_under_each(page: str) -> None:
    lines = re.findall(r"<dt>plus</dt><dd[^>]*>([^<]*)</dd>", page)
    assert len(lines) == 5
    assert sum("not a photo" in line for line in lines) == 1
    sentences = [line for line in lines if re.fullmatch(r"[A-Z][a-z ]+\. \(\d+%\)", line)]
    assert len(sentences) == 3


def test_a_folder_without_photos_is_said(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path), "--models", str(PLUS)])
    assert result.exit_code == 1 and "holds no photo" in result.output
