"""``edgecap labels build``, and words that `edgecap label` embeds on the spot, with a text side that knows colours."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import edgecap, edgecap_here
from numpy.typing import NDArray
from tiny_labels import SPACE, label_table, write_label_bundle

from edgecap.runtime.labels.table import LabelTable
from edgecap.runtime.labels.text_side import MINILM
from edgecap.text import spaces

Photo = Callable[..., Path]
COLOURS = {"scarlet": (120, -100, -110), "night": (-90, -90, -100), "azul": (-100, -100, 120)}


def _embed(words: Sequence[str]) -> NDArray[np.float32]:
    return np.array([COLOURS[word.lower()] for word in words], np.float32)


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text side of the tiny labeller's space."""
    module = ModuleType("colours")
    module.embedder = lambda: _embed  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "colours", module)
    monkeypatch.setitem(spaces._EMBEDDERS, SPACE, ("colours", ()))
    monkeypatch.setenv("EDGECAP_WORDS", str(tmp_path / "kept"))


def built(folder: Path, bundle: Path, words: str, *options: object) -> tuple[int, list[str], list[str]]:
    (folder / "words.txt").write_text(words, encoding="utf-8")
    return edgecap_here("labels", "build", folder / "words.txt", "-o", folder / "t.json", "--bundle", bundle, *options)


@pytest.mark.usefixtures("text")
def test_words_are_embedded_on_the_spot(label_bundle: Path, photo: Photo) -> None:
    own = ("label", photo("red.jpg", "red"), "--bundle", label_bundle)
    assert edgecap_here(*own, "--labels", "Scarlet,blue,night", "--top", 2, "--threshold", 0) == (
        0,
        ["Scarlet 0.87, night 0.02"],
        [],
    )
    assert edgecap_here(*own, "--keep", "scarlet") == (0, [own[1].__fspath__()], [])


@pytest.mark.usefixtures("text")
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_table_is_made_and_serves(label_bundle: Path, photo: Photo, tmp_path: Path, precision: str) -> None:
    words = "\ufeffscarlet\tvermelho\n\n blue\tazul \nnight\n"
    code, out, err = built(tmp_path, label_bundle, words, "--precision", precision)
    assert (code, out) == (0, [f"{tmp_path / 't.json'}  3 labels  0.0 MB"])
    assert err == ["edgecap: 2 labels not calibrated: as likely as the bundle's labels are in the median"]
    table = LabelTable.from_json(json.loads((tmp_path / "t.json").read_bytes()))
    assert table.names == (("scarlet", "vermelho"), ("blue", "azul"), ("night",)) and table.precision == precision
    known = label_table()
    assert np.allclose(table.columns[:, 1], known.columns[:, known.rows["blue"]], atol=0.01)
    assert np.allclose(
        table.columns[:, 0], np.array(COLOURS["scarlet"]) / np.linalg.norm(COLOURS["scarlet"]), atol=0.01
    )
    own = ("label", photo("red.jpg", "red"), "--bundle", label_bundle, "--table", tmp_path / "t.json")
    assert edgecap(*own, "--labels", "vermelho,azul") == (0, ["vermelho 0.87"], [])


def test_known_words_need_no_text_side(label_bundle: Path, tmp_path: Path) -> None:
    assert built(tmp_path, label_bundle, "blue\nred\trouge\n") == (0, [f"{tmp_path / 't.json'}  2 labels  0.0 MB"], [])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("", "labels: none is named"),
        ("red\nblue\nRed\n", "the label 'red' stands twice"),
        ("red\tblau\nblue\tblau\n", "the label 'blau' stands twice"),
        ("red\nscarlet\n", "not in the table of labels: 'scarlet'"),
        ("r" * 10_000, "labels: a label has at most 200 characters, not 10,000"),
        ("red\t" + "r" * 10_000, "a label has at most 200 characters, not 10,000"),
        ("red\x07\n", "has a character that is no text"),
    ],
)
def test_what_makes_no_table_leaves_none(label_bundle: Path, tmp_path: Path, words: str, problem: str) -> None:
    code, out, err = built(tmp_path, label_bundle, words)
    assert (code, out, len(err)) == (2, [], 1) and problem in err[0] and len(err[0]) < 400
    assert not (tmp_path / "t.json").exists()


def test_faults_around_it(label_bundle: Path, tmp_path: Path, photo: Photo) -> None:
    missing = edgecap_here("labels", "build", tmp_path / "no.txt", "-o", tmp_path / "t.json", "--bundle", label_bundle)
    assert missing == (1, [], [f"edgecap: {tmp_path / 'no.txt'}: No such file or directory"])
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "w.txt").write_text("red\n")
    code, out, err = edgecap_here(
        "labels", "build", tmp_path / "w.txt", "-o", tmp_path / "file" / "t.json", "--bundle", label_bundle
    )
    assert (code, out, len(err)) == (1, [], 1) and str(tmp_path / "file") in err[0]


def test_without_the_extra_it_is_named(photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(spaces._EMBEDDERS, MINILM, ("edgecap.text.minilm", ("no_such_library",)))
    bundle = write_label_bundle(tmp_path / "bundle", table=label_table(space=MINILM))
    code, out, err = edgecap_here("label", photo("red.jpg", "red"), "--bundle", bundle, "--labels", "gren")
    assert (code, out) == (2, [])
    assert "'gren' (near: 'green'" in err[0] and "pip install 'edgecap[labels]'" in err[0]
