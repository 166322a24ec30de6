"""Where nothing of the user's can be written, photos are captioned and timed all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import edgecap, edgecap_here

from edgecap.bench import report
from edgecap.bench.others import OthersWatch
from edgecap.runtime.machine import tuning

FEW = ("--captions", 5, "--threads", 1, "--precision", "fp32")


@pytest.fixture
def home(disk: Callable[[str], Path]) -> Path:
    """A home directory on a disk that may only be read."""
    folder = disk("size=64k")
    disk("remount,ro")
    return folder


def test_photos_are_captioned(tiny_bundle: Path, photo: Callable[..., Path], home: Path) -> None:
    environment = {"HOME": str(home), "XDG_CONFIG_HOME": "", "EDGECAP_TUNING": ""}
    code, out, err = edgecap("caption", "--bundle", tiny_bundle, photo("red.jpg", "red"), **environment)
    assert (code, out, err) == (0, ["A red photo."], [])


def test_captions_are_timed_and_what_cannot_be_kept_is_one_line(
    tiny_bundle: Path, photo: Callable[..., Path], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CONFIG_HOME", tuning.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(report, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(OthersWatch, "cores", lambda watch: 0.0)
    arguments = ("bench", photo("red.jpg", "red"), "--bundle", tiny_bundle, *FEW)
    code, out, err = edgecap_here(*arguments, "--json", tmp_path / "bench.json")
    assert code == 0 and any(line.startswith("onnxruntime") for line in out)
    assert json.loads((tmp_path / "bench.json").read_text())["captions"] == 5
    code, out, err = edgecap_here(*arguments, "--sweep")
    assert code == 1 and any(line.startswith("onnxruntime") for line in out)  # the figures are there
    assert err[-1] == f"edgecap: {home / '.config'}: Read-only file system"
    assert [line for line in err if line.startswith("edgecap:")] == err[-1:]
