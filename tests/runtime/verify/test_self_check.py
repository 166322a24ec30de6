"""Captions that are not those of the machine that exported: said once it is known, found out once, never in the way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, edgecap, edgecap_here
from golden_bundle import edit_golden, write_golden

from edgecap.bench import report
from edgecap.bench.others import OthersWatch
from edgecap.runtime import load
from edgecap.runtime.verify import golden_check as verification
from edgecap.runtime.verify import self_check

Photo = Callable[..., Path]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results are kept in this test."""
    monkeypatch.delenv("EDGECAP_GOLDEN")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgecap" / "golden.json"


@pytest.fixture
def sound(own_bundle: Path) -> Path:
    """A bundle whose golden record is this machine's."""
    write_golden(own_bundle)
    return own_bundle


@pytest.fixture
def strange(sound: Path) -> Path:
    """A bundle whose INT8 graphs did other things where they were exported."""

    def edit(document: dict[str, dict[str, dict[str, dict[str, dict[str, str]]]]]) -> None:
        document["graphs"]["onnx-int8"]["captions"]["beam"]["caption"] = "A dog."

    edit_golden(sound, edit)
    return sound


def test_a_bundle_that_does_what_it_did_says_nothing(sound: Path, photo: Photo, cache: Path) -> None:
    for _ in range(2):
        code, out, err = edgecap_here("caption", photo("red.jpg", "red"), "--bundle", sound)
        assert (code, out, err) == (0, ["A red photo."], [])
    assert list(json.loads(cache.read_text()).values()) == [None]


def test_one_that_does_not_is_told_with_every_photo_that_is_asked_for_and_looked_into_once(
    strange: Path, photo: Photo, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []
    check = verification.check_engine
    monkeypatch.setattr(verification, "check_engine", lambda *given: checked.append(1) or check(*given))
    int8 = ("--bundle", strange, "--precision", "int8")
    for _ in range(2):
        code, out, err = edgecap_here("caption", photo("red.jpg", "red"), photo("b.jpg", "blue"), *int8)
        assert code == 0 and len(out) == 2
        (line,) = err
        assert line.startswith("edgecap: captions may be wrong: on this machine the golden photo of tiny-test@")
        assert "onnx int8" in line and "'A dog.' was recorded" in line and "--precision" in line
    assert checked == [1]
    assert edgecap_here("caption", photo("red.jpg", "red"), "--bundle", strange, "--precision", "fp32")[2] == []


def test_auto_takes_the_next_graphs_once_that_is_known(strange: Path, photo: Photo, cache: Path) -> None:
    with load(strange) as captioner:
        assert (captioner.precision, captioner.notes) == ("int8", ())
    edgecap_here("caption", photo("red.jpg", "red"), "--bundle", strange)
    with load(strange) as captioner:
        assert captioner.precision == "fp32"
        (note,) = captioner.notes
        assert note.startswith("int8 graphs make other captions on this machine than where they were exported")
        assert note.endswith(": fp32 is used")
    with load(strange, precision="int8") as captioner:
        assert captioner.precision == "int8"


def test_a_process_of_its_own_says_it_too(
    strange: Path, photo: Photo, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "EDGECAP_GOLDEN", str(cache))
    code, out, err = edgecap("caption", photo("red.jpg", "red"), "--bundle", strange)
    assert (code, out) == (0, ["A red photo."]) and "captions may be wrong" in err[0]


def test_json_and_failures_stay_as_they_are(strange: Path, photo: Photo, cache: Path) -> None:
    code, out, err = edgecap_here("caption", "no.jpg", photo("red.jpg", "red"), "--json", "--bundle", strange)
    assert code == 1 and [json.loads(line).get("caption") for line in out] == [None, "A red photo."]
    assert [line.partition(":")[2].strip()[:8] for line in err] == ["no.jpg: ", "captions"]


@pytest.mark.parametrize("content", [b"torn", b"[]", b'{"x": 1}', b"\xff" * 100])
def test_a_file_that_is_not_whole_is_written_anew(content: bytes, sound: Path, photo: Photo, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    assert edgecap_here("caption", photo("red.jpg", "red"), "--bundle", sound)[2] == []
    assert None in json.loads(cache.read_text()).values()


@pytest.mark.parametrize("named", ["file/golden.json", "folder"])
def test_where_nothing_can_be_kept_nothing_is_found_out(
    named: str, strange: Path, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("EDGECAP_GOLDEN", str(tmp_path / named))
    assert edgecap_here("caption", photo("red.jpg", "red"), "--bundle", strange) == (0, ["A red photo."], [])
    assert not list((tmp_path / "folder").iterdir())


def test_a_device_stays_one(strange: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECAP_GOLDEN", os.devnull)
    assert edgecap_here("caption", photo("red.jpg", "red"), "--bundle", strange) == (0, ["A red photo."], [])
    assert Path(os.devnull).is_char_device()


def test_a_bundle_without_a_golden_photo_is_not_suspected(tiny_bundle: Path, cache: Path) -> None:
    with load(tiny_bundle) as captioner:
        assert self_check.self_check(captioner) is None


def test_a_sweep_leaves_out_what_is_wrong_here(
    strange: Path, photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECAP_TUNING", str(tmp_path / "tuning.json"))
    monkeypatch.setattr(report, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(OthersWatch, "cores", lambda self: 0.0)
    sweep = ("bench", photo("red.jpg", "red"), "--bundle", strange, "--engine", "onnx", "--threads", "1", "--sweep")
    code, out, err = edgecap_here(*sweep, "--captions", 5)
    assert code == 0 and "fastest: onnx fp32" in out[-1]
    assert any("left out" in line and "onnx int8" in line for line in err)
    with load(strange) as captioner:
        assert captioner.precision == "fp32"
    code, _, err = edgecap_here(*sweep, "--precision", "int8", "--captions", 5)
    assert code != 0 and "none does here what it did where it was exported" in err[-1]
