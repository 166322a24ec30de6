"""Standard streams that are closed or full, and devices in the place of files: one line, and a true exit status."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, edgecap

Photo = Callable[..., Path]

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="it takes Linux's devices")


def shell(arguments: list[object], redirection: str, **environment: str) -> tuple[int, list[str], list[str]]:
    """``edgecap`` as a shell starts it: exit code, lines of stdout, lines of stderr."""
    command = [shlex.quote(str(part)) for part in (sys.executable, "-m", "edgecap", *arguments)]
    run = subprocess.run(
        ["sh", "-c", " ".join([*command, redirection])],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **environment},
        timeout=900,
    )
    return run.returncode, run.stdout.splitlines(), run.stderr.splitlines()


@pytest.mark.parametrize(
    ("redirection", "problem"),
    [
        ("<&-", "stdin is closed"),
        ("0>written", "stdin cannot be read: Bad file descriptor"),
        ("</dev/null", "is empty"),
    ],
)
def test_a_stdin_without_a_photo_is_one_line(
    tiny_bundle: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch, redirection: str, problem: str
) -> None:
    red = photo("red.jpg", "red")
    monkeypatch.chdir(red.parent)
    code, out, err = shell(["caption", "-", red, "--bundle", tiny_bundle], redirection)
    assert (code, out, err) == (1, [f"{red}: A red photo."], [f"edgecap: -: {problem}"])


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom", "/dev/null"])
def test_a_device_is_no_photo(tiny_bundle: Path, photo: Photo, device: str) -> None:
    red = photo("red.jpg", "red")
    code, out, err = edgecap("caption", device, red, "--bundle", tiny_bundle)
    assert (code, out, err) == (1, [f"{red}: A red photo."], [f"edgecap: {device}: is a device, not a photo"])


@pytest.mark.parametrize(("redirection", "problem"), [(">/dev/full", "No space left on device"), (">&-", "is closed")])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["caption", "--help"], ["caption"], ["inspect"]])
def test_words_that_nobody_takes_are_a_failure(
    tiny_bundle: Path, photo: Photo, redirection: str, problem: str, arguments: list[object]
) -> None:
    if arguments == ["caption"]:
        arguments = ["caption", photo("red.jpg", "red"), "--bundle", tiny_bundle]
    elif arguments == ["inspect"]:
        arguments = ["inspect", tiny_bundle]
    assert shell(arguments, redirection) == (1, [], [f"edgecap: stdout: {problem}"])


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_without_stderr_the_photos_are_captioned(tiny_bundle: Path, photo: Photo, redirection: str) -> None:
    red, blue = photo("red.jpg", "red"), photo("blue.jpg", "blue")
    captions = [f"{red}: A red photo.", f"{blue}: A blue photo."]
    arguments: list[object] = ["caption", red, "missing.jpg", blue, "--bundle", tiny_bundle]
    assert shell(arguments, redirection) == (1, captions, [])
    assert shell([*arguments[:2], blue, *arguments[4:]], redirection) == (0, captions, [])
    assert shell(["describe"], redirection) == (2, [], [])


def test_with_no_stream_at_all_the_status_is_true(tiny_bundle: Path, photo: Photo) -> None:
    red = photo("red.jpg", "red")
    assert shell(["caption", red, "--bundle", tiny_bundle], ">&- 2>&- <&-")[0] == 1
    assert red.read_bytes()[:2] == b"\xff\xd8"  # no stream's number went to a file


def test_what_a_sweep_left_may_be_no_file(tiny_bundle: Path, photo: Photo, tmp_path: Path) -> None:
    red = photo("red.jpg", "red")
    os.mkfifo(tmp_path / "pipe")
    for place in ("/dev/zero", tmp_path / "pipe", tmp_path):
        code, out, err = edgecap("caption", red, "--bundle", tiny_bundle, EDGECAP_TUNING=str(place))
        assert (code, out, len(err)) == (0, ["A red photo."], 1)
        assert err[0].startswith(f"edgecap: {place}: cannot be read: ")
        code, out, err = edgecap("bench", red, "--bundle", tiny_bundle, "--sweep", EDGECAP_TUNING=str(place))
        assert (code, out) == (2, []) and len(err) == 1
        assert err[0] == f"edgecap: EDGECAP_TUNING names {place}, which is no file: nothing can be kept there"


def test_an_unknown_command_is_answered_with_the_nearest(photo: Photo) -> None:
    for name, near in (("captoin", "caption"), ("verfy", "verify"), ("benchmark", "bench")):
        code, out, err = edgecap(name)
        assert (code, out) == (2, []) and err[-1] == f"Error: no such command '{name}': did you mean {near}?"
    red = photo("red.jpg", "red")
    assert edgecap(red)[2][-1].endswith("to describe a photo, say  edgecap caption PHOTO")
    assert "choose one of train, eval, export, caption" in edgecap("zzz")[2][-1]


def test_a_name_that_no_file_can_have_is_one_bearable_line(tiny_bundle: Path, photo: Photo) -> None:
    red, name = photo("red.jpg", "red"), "x" * 100_000
    code, out, (line,) = edgecap("caption", name, red, "--bundle", tiny_bundle)
    assert (code, out) == (1, [f"{red}: A red photo."])
    assert line.endswith("xxx: cannot be opened: File name too long") and len(line) < 10_000
    for status, arguments in ((1, ("caption", red, "--bundle", name)), (1, ("verify", name)), (2, (name,))):
        code, out, err = edgecap(*arguments)
        assert (code, out) == (status, []) and len(err[-1]) < 10_000 and "Traceback" not in "".join(err)
