"""What a frozen network makes of photos, on disk: computed once, checked when it is used again, resumed when killed."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecap.runtime.bundle.typed import read_options
from edgecap.runtime.machine.atomic_write import write_atomically

Features = NDArray[np.float16]  # (photos, ...), memory-mapped
ENCODE_BATCH, ENCODE_BATCH_OF_A_CARD = 32, 256
_BATCHES_BETWEEN_MARKS = 16  # a killed run computes at most so many batches once more
_CHUNK = 2**24


def encoded_at_once() -> int:
    """Photos that a network takes at once here: a graphics card is not busy with as few as a CPU."""
    return ENCODE_BATCH_OF_A_CARD if torch.cuda.is_available() else ENCODE_BATCH


def filled(images: Tensor) -> Tensor:
    """Photos (N, ...), on a graphics card as many as it takes at once: for another number it prepares for seconds."""
    lacking = encoded_at_once() - len(images)
    if not images.is_cuda or lacking <= 0:
        return images
    return torch.cat([images, images[:1].expand(lacking, *images.shape[1:])])


def feature_key(network: str, *recipe: Any) -> str:
    """Name for the features of a network: a hash of its ``network_key`` and of all else that they depend on."""
    return hashlib.sha256(json.dumps([network, *recipe]).encode()).hexdigest()[:16]


def photo_facts(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Of each photo its name, by which views are drawn, and size and CRC of its file: so it is known again."""
    return [(path.name, *_content(path, path.stat().st_mtime_ns)) for path in paths]


@cache
def _content(path: Path, changed: int) -> tuple[int, int]:
    """Size and CRC of a file: read once for all views, teachers and stages that ask, as long as it is not changed."""
    content = path.read_bytes()
    return len(content), zlib.crc32(content)


@dataclass(frozen=True)
class FeatureCache:
    """Arrays in a folder. ``advance(n)`` is told of n photos done."""

    folder: Path
    advance: Callable[[int], object]

    def features(self, name: str, count: int, compute: Callable[[range], NDArray[np.floating[Any]]]) -> Features:
        """The array ``name``: ``compute(range)`` gives its rows, of which there are ``count``, where it is not there.

        An array whose checksum is not what was written is computed again. Of several runs that share the folder one
        computes at a time, and the others wait.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.npy"
        if not _whole(path):
            with _alone_in(self.folder):
                if not _whole(path):
                    self._write(path, count, compute)
                    count = 0  # which were told of one by one
        self.advance(count)
        array: Features = np.load(path, mmap_mode="r")
        return array

    @torch.inference_mode()
    def _write(self, path: Path, count: int, compute: Callable[[range], NDArray[np.floating[Any]]]) -> None:
        """Compute what is missing. The file gets its name when it is whole; until then a mark says how far it is."""
        partial, mark = path.with_name(path.name + ".partial"), _mark(path)
        done = _read(mark).done if partial.exists() else 0
        path.unlink(missing_ok=True)
        array = np.load(partial, mmap_mode="r+") if done else None
        self.advance(done)
        at_once = encoded_at_once()
        for start in range(done, count, at_once):
            rows = compute(range(start, min(start + at_once, count)))
            if array is None:
                shape = (count, *rows.shape[1:])
                array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)  # type: ignore[no-untyped-call,unused-ignore]
                _reserve(partial)
            array[start : start + len(rows)] = rows
            self.advance(len(rows))
            if start // at_once % _BATCHES_BETWEEN_MARKS == _BATCHES_BETWEEN_MARKS - 1:
                array.flush()
                _write(mark, {"done": start + len(rows)})
        if isinstance(array, np.memmap):
            array.flush()
        _write(mark, {"sha256": _checksum(partial)})
        partial.replace(path)


def _whole(path: Path) -> bool:
    return path.exists() and _read(_mark(path)).sha256 == _checksum(path)


if sys.platform == "win32":  # where folders cannot be locked

    def _alone_in(folder: Path) -> AbstractContextManager[None]:
        return nullcontext()

else:
    import fcntl

    @contextmanager
    def _alone_in(folder: Path) -> Iterator[None]:
        """Within it no other process is within it for the same folder."""
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _reserve(path: Path) -> None:
    """Have the disk keep the room that a new file will fill: where none is left, a mapped one ends the process.

    Raises ``OSError``, and leaves no file.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError:
        path.unlink()
        raise


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".json")


@dataclass(frozen=True)
class _Mark:
    """Of a whole array its checksum, of one that is being made how far it is; the default of one that knows neither."""

    done: int = 0
    sha256: str = ""


def _read(mark: Path) -> _Mark:
    try:
        return read_options(_Mark, json.loads(mark.read_bytes()))
    except (OSError, ValueError):
        return _Mark()


def _write(mark: Path, document: dict[str, Any]) -> None:
    with write_atomically(mark) as partial:
        partial.write_text(json.dumps(document))


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
