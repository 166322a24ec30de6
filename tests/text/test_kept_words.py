"""Words are embedded once: what is kept of them, and what a file that cannot be used does."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecap.text import kept_words
from edgecap.text.kept_words import KeptWords


class Counting:
    """Embeds words by their letters, and remembers what it was asked."""

    def __init__(self, width: int = 3) -> None:
        self.width = width
        self.asked: list[str] = []

    def __call__(self, words: Sequence[str]) -> NDArray[np.float32]:
        self.asked += words
        return np.array([[len(word)] + [ord(word[0])] * (self.width - 1) for word in words], np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGECAP_WORDS", str(tmp_path / "words"))
    return tmp_path / "words"


def test_a_word_is_embedded_once_whoever_asks(folder: Path) -> None:
    first = Counting()
    made = KeptWords("space", lambda: first).embed(["dog", "a red bus", "Dog"])
    assert made.dtype == np.float32 and np.array_equal(made[0], made[2]) and first.asked == ["Dog", "a red bus"]
    again = KeptWords("space", lambda: pytest.fail("nothing is missing"))
    assert np.array_equal(again.embed(["A  RED bus", "dog"]), made[[1, 0]])
    other = Counting()
    KeptWords("another", lambda: other).embed(["dog"])
    assert other.asked == ["dog"] and {file.name for file in folder.iterdir()} == {"space.npz", "another.npz"}


def test_the_network_is_loaded_once(folder: Path) -> None:
    loads = []

    def load() -> Counting:
        loads.append(1)
        return Counting()

    words = KeptWords("space", load)
    words.embed(["one"])
    words.embed(["two"])
    assert len(loads) == 1


@pytest.mark.parametrize("content", [b"", b"PK\3\4 torn", b"\x93NUMPY", b"nothing of ours"])
def test_a_broken_file_is_made_anew(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / "space.npz").write_bytes(content)
    KeptWords("space", Counting).embed(["dog"])
    KeptWords("space", lambda: pytest.fail("nothing is missing")).embed(["dog"])


@pytest.mark.parametrize(
    "changes",
    [
        {"keys": np.zeros((1, 3), np.uint8)},
        {"vectors": np.zeros((2, 3), np.float32)},
        {"vectors": np.full((1, 3), np.nan, np.float32)},
        {"vectors": np.array([[None]], object)},
    ],
)
def test_a_file_of_something_else_is_made_anew(folder: Path, changes: dict[str, NDArray[np.float32]]) -> None:
    folder.mkdir()
    arrays = {"keys": np.zeros((1, 16), np.uint8), "vectors": np.ones((1, 3), np.float32)}
    np.savez(folder / "space.npz", allow_pickle=True, **{**arrays, **changes})
    assert np.array_equal(KeptWords("space", Counting).embed(["dog"]), Counting()(["dog"]))


def test_vectors_of_another_network_are_not_mixed_with(folder: Path) -> None:
    KeptWords("space", lambda: Counting(3)).embed(["dog", "cat"])
    wider = Counting(5)
    assert KeptWords("space", lambda: wider).embed(["dog", "bus"]).shape == (2, 5)
    assert KeptWords("space", lambda: pytest.fail("nothing is missing")).embed(["bus"]).shape == (1, 5)


def test_where_nothing_can_be_kept_words_are_embedded_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EDGECAP_WORDS", str(tmp_path / "file" / "words"))
    assert len(KeptWords("space", Counting).embed(["dog"])) == 1


def test_only_the_newest_words_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_words, "MAX_LABELS", 2)
    asked = Counting()
    words = KeptWords("space", lambda: asked)
    words.embed(["one"])
    words.embed(["two", "three"])
    words.embed(["one", "three"])
    assert asked.asked == ["one", "two", "three", "one"]


def test_threads_may_ask_at_once(folder: Path) -> None:
    words = KeptWords("space", Counting)
    made: list[NDArray[np.float32]] = []
    threads = [threading.Thread(target=lambda n=n: made.append(words.embed([f"{n} dogs"]))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    again = KeptWords("space", lambda: pytest.fail("nothing is missing"))
    assert len(again.embed([f"{n} dogs" for n in range(8)])) == 8
