"""What several tests need: a tiny generated bundle, and photos of one colour."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from tiny_bundle import write_tiny_bundle

from edgecap.runtime import Captioner, load

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
REAL_PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos"


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a bundle that says "A red photo." and the like. Not to be written to: see ``own_bundle``."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture
def own_bundle(tmp_path: Path) -> Path:
    """The same bundle, for a test that damages it."""
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def captioner(tiny_bundle: Path) -> Iterator[Captioner]:
    with load(tiny_bundle, threads=1) as loaded:
        yield loaded


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., Path]:
    """Writes a photo of one colour and returns its path: ``photo("red.jpg", "red")``."""

    def write(name: str, colour: str, size: tuple[int, int] = (64, 48)) -> Path:
        path = tmp_path / name
        path.write_bytes(encoded(colour, size, "PNG" if path.suffix == ".png" else "JPEG"))
        return path

    return write


@pytest.fixture(scope="session")
def real_photos() -> list[Path]:
    photos = sorted(REAL_PHOTOS.glob("*.jpg"))
    if not photos:
        pytest.skip("the sample photos of the shared data folder are not here")
    return photos


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Threads that wait for each other at every layer are slow where the cores are taken."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def encoded(colour: str, size: tuple[int, int] = (64, 48), file_format: str = "JPEG") -> bytes:
    """The bytes of a photo of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, file_format)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares its size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


def edgecap(*arguments: object, stdin: bytes = b"", **environment: str) -> tuple[int, list[str], list[str]]:
    """Exit code, lines of stdout, lines of stderr."""
    command = [sys.executable, "-m", "edgecap", *map(str, arguments)]
    run = subprocess.run(command, input=stdin, capture_output=True, env={**ENVIRONMENT, **environment})
    return run.returncode, run.stdout.decode().splitlines(), run.stderr.decode().splitlines()
