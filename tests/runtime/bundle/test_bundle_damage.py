"""A bundle with anything changed, or with anything but files in it, is refused by name before it is used."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, ROOT, edgecap_here
from edited_bundle import edit_manifest

from edgecap.errors import BundleError
from edgecap.runtime import load
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.entries import MAX_BYTES, MAX_GRAPH_BYTES, MAX_MANIFEST_BYTES, is_inside
from edgecap.runtime.bundle.files import MANIFEST

FLIPS = 500
PLUS = ROOT / "models" / "plus" / "bundle"


@pytest.fixture(scope="module")
def plus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the default bundle, which its tests leave as it was."""
    return Path(shutil.copytree(PLUS, tmp_path_factory.mktemp("plus") / "bundle"))


def files(bundle: Path) -> list[str]:
    return sorted(str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file())


class Flipped:
    """Within it, one byte of a file is another one."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.path, self.place = path, chance.randrange(path.stat().st_size)
        self.change = chance.randrange(1, 256)

    def __enter__(self) -> None:
        with self.path.open("r+b") as file:
            file.seek(self.place)
            (byte,) = file.read(1)
            file.seek(self.place)
            file.write(bytes([byte ^ self.change]))

    __exit__ = lambda self, *error: self.__enter__()  # noqa: E731


def test_a_changed_byte_anywhere_is_refused_by_name(plus: Path) -> None:
    chance, names = random.Random(1), files(plus)
    for number in range(FLIPS):
        name = names[number % len(names)]
        with Flipped(plus / name, chance), pytest.raises(BundleError) as caught:
            Bundle.open(plus)
        assert str(caught.value).startswith(f"{plus / name}: ") and "\n" not in str(caught.value)
    assert Bundle.open(plus).manifest == Bundle.open(PLUS).manifest


@pytest.mark.parametrize("command", ["verify", "caption"])
def test_commands_refuse_a_changed_byte_of_every_file_in_one_line(plus: Path, command: str) -> None:
    chance = random.Random(2)
    arguments = {"verify": ("verify", plus), "caption": ("caption", "--bundle", plus, "photo.jpg")}[command]
    for name in files(plus):
        with Flipped(plus / name, chance):
            code, out, err = edgecap_here(*arguments)
        assert (code, out, len(err)) == (1, [], 1) and err[0].startswith(f"edgecap: {plus / name}: "), name


def test_white_space_of_the_manifest_is_under_its_digest_too(own_bundle: Path) -> None:
    whole = (own_bundle / MANIFEST).read_bytes()
    spaces = [match.start() for match in re.finditer(rb"\s", whole)]
    for place in spaces[:: max(1, len(spaces) // 100)]:
        for other in b" \t\n\r".replace(whole[place : place + 1], b""):
            (own_bundle / MANIFEST).write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
            with pytest.raises(BundleError, match=r"manifest\.json: is wrong: its text is not as it was written"):
                Bundle.open(own_bundle)
    for changed in (whole + b"\n", b" " + whole, whole.replace(b"\n", b"\r\n"), whole.rstrip()):
        (own_bundle / MANIFEST).write_bytes(changed)
        with pytest.raises(BundleError, match="is not as it was written"):
            Bundle.open(own_bundle)


def edgecap_with(memory: int, *arguments: object) -> tuple[int, list[str], list[str]]:
    """As ``edgecap``, of a process that may not have more bytes of memory."""
    command = [sys.executable, "-m", "edgecap", *map(str, arguments)]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory)),
    )
    return run.returncode, run.stdout.splitlines(), run.stderr.splitlines()


def make_directory(path: Path) -> None:
    path.mkdir()


def make_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may not be long
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize("name", [MANIFEST, "vocab.json", "encoder.int8.onnx", "golden/note.txt"])
@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (make_directory, "is no regular file"),
        (os.mkfifo, "is no regular file"),
        (make_socket, "is no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a symbolic link"),
        (lambda path: path.symlink_to("nowhere"), "is a symbolic link"),
        (lambda path: path.symlink_to(path), "is a symbolic link"),
    ],
    ids=["directory", "fifo", "socket", "device", "dangling", "loop"],
)
def test_what_is_no_file_is_never_opened(
    own_bundle: Path, name: str, make: Callable[[Path], object], problem: str
) -> None:
    (own_bundle / name).unlink()
    make(own_bundle / name)
    with pytest.raises(BundleError, match=rf"{name}: {problem}"):
        Bundle.open(own_bundle)


def test_places_are_looked_at_before_any_file_is_opened(own_bundle: Path) -> None:
    """The first file is torn, but the last is none: that is what is said."""
    entries = Bundle.open(own_bundle).manifest.files
    (own_bundle / entries[0].path).write_bytes(b"torn")
    (own_bundle / entries[-1].path).unlink()
    os.mkfifo(own_bundle / entries[-1].path)
    with pytest.raises(BundleError, match=f"{entries[-1].path}: is no regular file"):
        Bundle.open(own_bundle)


def test_a_file_that_became_a_pipe_is_not_waited_for(own_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it had been exchanged after it was looked at."""
    bundle = Bundle.open(own_bundle)
    entry = bundle.manifest.files[0]
    (own_bundle / entry.path).unlink()
    os.mkfifo(own_bundle / entry.path)
    monkeypatch.setattr("edgecap.runtime.bundle.files.check_place", lambda root, name: None)
    with pytest.raises(BundleError, match=f"{entry.path}: is no regular file"):
        bundle.read(entry)
    (own_bundle / entry.path).unlink()
    (own_bundle / entry.path).symlink_to("/dev/zero")
    with pytest.raises(BundleError, match=f"{entry.path}: cannot be read: "):
        bundle.read(entry)


@pytest.mark.parametrize(
    "path",
    ["a\0b", "a\\b", "a\nb", "\x1b[2J", "\ud800", "\u202egnp", "a/../b", "./a", "a//b", "a/", "/a", "~/a:b", "a" * 256],
)
def test_names_that_are_none_are_refused_in_one_line(own_bundle: Path, path: str) -> None:
    assert not is_inside(path)
    edit_manifest(own_bundle, lambda document: document["files"][-1].update(path=path))
    with pytest.raises(BundleError, match=r"manifest\.json: is wrong: the path '.*' leads out of the bundle") as caught:
        Bundle.open(own_bundle)
    assert str(caught.value).isprintable()


def test_a_path_that_is_listed_twice_is_named(own_bundle: Path) -> None:
    edit_manifest(own_bundle, lambda document: document["files"].append(document["files"][3]))
    with pytest.raises(BundleError, match=r"manifest\.json: is wrong: golden/note\.txt is listed twice"):
        Bundle.open(own_bundle)


@pytest.mark.parametrize("role", ["vocab", "graph", "golden"])
def test_a_file_beyond_the_limit_of_its_role_is_refused_by_the_manifest_alone(own_bundle: Path, role: str) -> None:
    def edit(document: dict[str, object]) -> None:
        files: list[dict[str, object]] = document["files"]  # type: ignore[assignment]
        next(file for file in files if file["role"] == role).update(bytes=MAX_BYTES[role] + 1)

    edit_manifest(own_bundle, edit)
    with pytest.raises(BundleError, match=rf"is larger than {MAX_BYTES[role]} bytes, the most for '{role}'"):
        Bundle.open(own_bundle)
    assert MAX_BYTES["graph"] == MAX_GRAPH_BYTES


@pytest.mark.parametrize("name", [MANIFEST, "vocab.json", "generation.json", "preprocess.json", "encoder.fp32.onnx"])
def test_a_gigabyte_is_not_read(own_bundle: Path, name: str) -> None:
    with (own_bundle / name).open("r+b") as file:
        file.truncate(2**30)
    code, out, err = edgecap_with(2**30, "caption", "--bundle", own_bundle, "photo.jpg")
    problem = f"is larger than {MAX_MANIFEST_BYTES} bytes" if name == MANIFEST else "does not match its sha256"
    assert (code, out, len(err)) == (1, [], 1) and err[0].startswith(f"edgecap: {own_bundle / name}: {problem}")


def test_a_bundle_that_may_only_be_read_works(
    own_bundle: Path, disk: Callable[[str], Path], photo: Callable[..., Path]
) -> None:
    folder = disk("size=1m")
    shutil.copytree(own_bundle, folder / "bundle")
    disk("remount,ro")
    with load(folder / "bundle", threads=1) as captioner:
        assert captioner.caption(photo("red.jpg", "red")).text == "A red photo."
