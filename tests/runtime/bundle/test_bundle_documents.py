"""JSON of a bundle that is no JSON, a bomb, or says the wrong things: one line that names the file."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import edgecap_here, encoded
from edited_bundle import edit_document, edit_manifest
from tiny_bundle import CONFIDENCE, GENERATION, PREPROCESS, VOCABULARY, write_tiny_bundle

from edgecap.errors import BundleError, EdgecapError
from edgecap.runtime import load
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.files import MANIFEST
from edgecap.runtime.bundle.json_document import MAX_DEPTH, parse_json
from edgecap.runtime.bundle.vocabulary import Detokenizer

DOCUMENTS: dict[str, Any] = {
    "vocab.json": VOCABULARY.to_json(),
    "preprocess.json": PREPROCESS.to_json(),
    "generation.json": GENERATION.to_json(),
    "confidence.json": CONFIDENCE.to_json(),
}
BOMBS = {
    "bottomless": b"[" * 100_000,
    "deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "just too deep": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "wide": b"[" + b"[]," * 100_000 + b"0]",
    "twice": b'{"mean": 1, "mean": 2}',
    "twice within": b'{"a": [{"b": 1, "c": 2, "b": 1}]}',
    "nan": b'{"a": NaN}',
    "infinity": b"[-Infinity]",
    "too large": b"[1e999]",
    "huge": b"[" + b"9" * 100_000 + b"]",
    "surrogate": b'"\\ud800"',
    "utf-16": '{"a": 1}'.encode("utf-16"),
    "bom": b"\xef\xbb\xbf{}",
    "empty": b"",
}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle", confidence=CONFIDENCE)


@pytest.mark.parametrize("name", [MANIFEST, *DOCUMENTS])
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_one_line(whole: Path, name: str, bomb: str) -> None:
    if name == MANIFEST:
        (whole / name).write_bytes(BOMBS[bomb])
    else:
        edit_document(whole, name, BOMBS[bomb])
    code, out, err = edgecap_here("inspect", whole)
    assert (code, out, len(err)) == (1, [], 1) and len(err[0]) < 500
    assert err[0].startswith(f"edgecap: {whole / name}: is ")


def test_what_bundles_hold_is_read() -> None:
    document = {"a": [1, -2.5, 10**17, "\u00e9", None, True], "b": {}}
    assert parse_json(json.dumps(document).encode()) == document
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    for name, document in DOCUMENTS.items():
        assert parse_json(json.dumps(document).encode()) == json.loads(json.dumps(document)), name


WRONG = (None, True, 3, -1, 0.5, 10**17, "text", "", [], {}, [[]], [None], {"a": 1}, ["a"] * 3, [1e300] * 3)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every value; of long lists only to some."""
    items: Any = document.items() if isinstance(document, dict) else ()
    if isinstance(document, list | tuple):
        items = list(enumerate(document))[:5]
    return [path, *(place for key, value in items for place in places(value, (*path, key)))]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_value_of_a_wrong_type_is_refused_or_harmless(whole: Path, name: str) -> None:
    sound = json.loads(json.dumps(DOCUMENTS[name]))
    refused = tried = 0
    for number, place in enumerate(places(sound)):
        for wrong in WRONG[number % 4 :: 4]:
            tried += 1
            document = copy.deepcopy(sound)
            if place:
                parent = document
                for key in place[:-1]:
                    parent = parent[key]
                parent[place[-1]] = wrong
            edit_document(whole, name, json.dumps(document if place else wrong).encode())
            try:
                Bundle.open(whole)
            except BundleError as error:
                assert str(error).startswith(f"{whole}") and str(error).isprintable(), (place, wrong)
                refused += 1
    assert refused > tried / 2


@pytest.mark.parametrize("field", ["name", "preset", "created_by", "min_runtime", "dims", "files", "bundle_id"])
def test_a_manifest_of_wrong_types_is_refused(whole: Path, field: str) -> None:
    sound = (whole / MANIFEST).read_bytes()
    for wrong in (None, True, 3, 0.5, [], {}, [None], [[]], [3], {"a": 1}):
        (whole / MANIFEST).write_bytes(sound)
        edit_manifest(whole, lambda document, wrong=wrong: document.update({field: wrong}), sealed=False)
        with pytest.raises(BundleError, match=r"manifest\.json: is wrong: "):
            Bundle.open(whole)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"replacements": [["", "x"]]}, "replaces nothing"),
        ({"replacements": [["a", "aa"]] * 4}, "more than 8 times as long"),
        ({"final": "." * 2000}, "more than 8 times as long"),
        ({"replacements": [["a", 1]]}, r"replacements\[0\]\[1\] must be a string, not 1"),
        ({"replacements": [["a"]]}, r"replacements\[0\] must be a list of 2, not of 1"),
        ({"capitalize_first": 1}, "vocab.detokenizer.capitalize_first must be true or false"),
        ({"final": None}, "vocab.detokenizer.final must be a string"),
    ],
)
def test_a_detokenizer_that_blows_up_is_refused(whole: Path, change: dict[str, Any], problem: str) -> None:
    document = json.loads(json.dumps(DOCUMENTS["vocab.json"]))
    document["detokenizer"].update(change)
    edit_document(whole, "vocab.json", json.dumps(document).encode())
    with pytest.raises(BundleError, match=rf"vocab\.json: is wrong: .*{problem}"):
        Bundle.open(whole)
    assert Detokenizer(replacements=((" dont ", " don't "),))(["dont", "dont", "go"]) == "Don't dont go."


def test_a_caption_is_one_line_whatever_its_words_are(whole: Path, tmp_path: Path) -> None:
    document = json.loads(json.dumps(DOCUMENTS["vocab.json"]))
    document["tokens"] = [token.replace("red", "red\nand\x1b[2J\ud800") for token in document["tokens"]]
    edit_document(whole, "vocab.json", json.dumps(document).encode())
    (tmp_path / "red.jpg").write_bytes(encoded("red"))
    code, out, err = edgecap_here("caption", "--bundle", whole, tmp_path / "red.jpg")
    assert (code, out, err) == (0, ["A red\\nand\\x1b[2J\\ud800 photo."], [])


@pytest.mark.parametrize("change", [{"std": [1e-320] * 3}, {"std": [1e300] * 3}, {"mean": [-1e300] * 3}])
def test_numbers_without_room_in_a_tensor_are_refused(whole: Path, change: dict[str, Any]) -> None:
    edit_document(whole, "preprocess.json", json.dumps({**DOCUMENTS["preprocess.json"], **change}).encode())
    with pytest.raises(EdgecapError, match=r"preprocess\.json: is wrong: mean and std must be at most"):
        load(whole)
