"""A bundle that is replaced while it is in use: whoever has the old one keeps it, and loads get one of them whole."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import encoded
from edited_bundle import edit_document
from tiny_bundle import VOCABULARY, write_tiny_bundle

from edgecap.errors import BundleError
from edgecap.export import atomic
from edgecap.export.atomic import replace_directory
from edgecap.runtime import load
from edgecap.runtime.bundle.bundle import Bundle, unless_replaced

SAYS = {"red": "A red photo.", "rosy": "A rosy photo."}
LOADS = 20


def write_bundle(path: Path, word: str) -> Path:
    """A bundle that calls red photos by ``word``, and is called so itself."""
    write_tiny_bundle(path, name=word)
    document = VOCABULARY.to_json()
    document["tokens"] = [word if token == "red" else token for token in document["tokens"]]
    edit_document(path, "vocab.json", json.dumps(document).encode())
    return path


@pytest.fixture
def replaced(tmp_path: Path) -> Iterator[Path]:
    """A bundle in whose place another one is put again and again, as exports do it."""
    kept = {word: write_bundle(tmp_path / word, word) for word in SAYS}
    target = Path(shutil.copytree(kept["red"], tmp_path / "bundle"))
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            for word in ("rosy", "red"):
                replace_directory(Path(shutil.copytree(kept[word], tmp_path / "new")), target)
                time.sleep(0.02)

    thread = threading.Thread(target=swap)
    thread.start()
    yield target
    ended.set()
    thread.join()


def test_a_load_gets_one_bundle_whole(replaced: Path) -> None:
    names = []
    while len(names) < LOADS or len(set(names)) < 2:
        with load(replaced, threads=1) as captioner:
            names.append(captioner.bundle.manifest.name)
            assert captioner.caption(encoded("red")).text == SAYS[names[-1]]


def test_a_captioner_goes_on_with_the_bundle_that_it_has(tmp_path: Path) -> None:
    target = write_bundle(tmp_path / "bundle", "red")
    with load(target, threads=1) as captioner:
        replace_directory(write_bundle(tmp_path / "new", "rosy"), target)
        assert captioner.caption(encoded("red")).text == "A red photo."
        shutil.rmtree(target)
        assert captioner.caption(encoded("red")).text == "A red photo."
    write_bundle(target, "rosy")
    with load(target, threads=1) as captioner:
        assert captioner.caption(encoded("red")).text == "A rosy photo."


def test_an_opened_bundle_never_reads_a_file_of_another(tmp_path: Path) -> None:
    target = write_bundle(tmp_path / "bundle", "red")
    bundle = Bundle.open(target)
    replace_directory(write_bundle(tmp_path / "new", "rosy"), target)
    (entry,) = (entry for entry in bundle.manifest.files if entry.role == "vocab")
    with pytest.raises(BundleError, match=r"vocab\.json: does not match its sha256"):
        bundle.read(entry)


def test_what_is_broken_is_not_tried_again(own_bundle: Path) -> None:
    tries = []

    def fail() -> None:
        tries.append(1)
        raise BundleError(own_bundle, "is broken")

    with pytest.raises(BundleError, match="is broken"):
        unless_replaced(own_bundle, fail)
    assert len(tries) == 1


def test_a_bundle_that_is_replaced_all_the_time_is_given_up(tmp_path: Path) -> None:
    target = write_bundle(tmp_path / "bundle", "red")
    tries = []

    def fail() -> None:
        tries.append(1)
        replace_directory(write_bundle(tmp_path / "new", "rosy"), target)
        raise BundleError(target, "is broken")

    with pytest.raises(BundleError, match="is broken"):
        unless_replaced(target, fail)
    assert len(tries) == 10


def test_where_directories_cannot_be_exchanged_loads_are_whole_too(
    replaced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment there is no bundle then: a load may say so, but no load is a mixture."""
    monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    loaded = 0
    while loaded < LOADS:
        try:
            with load(replaced, threads=1) as captioner:
                assert captioner.caption(encoded("red")).text == SAYS[captioner.bundle.manifest.name]
                loaded += 1
        except BundleError as error:
            assert "no such bundle" in str(error) or "no manifest.json" in str(error) or "is missing" in str(error)
