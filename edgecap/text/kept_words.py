"""Words that were embedded once, kept in the user's cache: the second time they wait for no network."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.labels.names import key_of
from edgecap.runtime.labels.table import MAX_LABELS, MAX_WIDTH
from edgecap.runtime.machine.atomic_write import write_atomically
from edgecap.runtime.machine.user_files import in_user_cache

VARIABLE = "EDGECAP_WORDS"  # names another folder than words/ in edgecap/ of the user's cache
_DIGEST_BYTES = 16

Embed = Callable[[Sequence[str]], FloatArray]  # n texts -> (n, E) float32
Known = dict[bytes, FloatArray]  # vectors by the digest of a word's key, the oldest first


class KeptWords:
    """A :class:`~edgecap.runtime.labels.text_side.TextSide` that asks another for words only once.

    ``load`` makes what embeds words; it is called when the first is not kept. At most as many words are kept as a table
    may have, and the oldest go first. What cannot be read or written is done without.
    """

    def __init__(self, space: str, load: Callable[[], Embed]) -> None:
        self.space = space
        self._load = load
        self._embed: Embed | None = None
        self._lock = threading.Lock()

    def embed(self, words: Sequence[str]) -> FloatArray:
        """Vectors (n, E), float32."""
        keys = [hashlib.blake2b(key_of(word).encode(), digest_size=_DIGEST_BYTES).digest() for word in words]
        with self._lock:
            file = self._file()
            known = _read(file)
            missing = {key: word for key, word in zip(keys, words, strict=True) if key not in known}
            if missing:
                if self._embed is None:
                    self._embed = self._load()
                made = self._embed(list(missing.values()))  # (m, E)
                if any(vector.shape != made.shape[1:] for vector in known.values()):
                    known = {}  # another network's, whose file it was
                    made = self._embed(list(words))
                    missing = dict(zip(keys, words, strict=True))
                known |= dict(zip(missing, made, strict=True))
                _write(file, known)
        return np.stack([known[key] for key in keys])

    def _file(self) -> Path | None:
        with suppress(RuntimeError):  # a user without a home
            return in_user_cache("words", VARIABLE) / f"{self.space}.npz"
        return None


def _read(file: Path | None) -> Known:
    """What is kept; nothing of a file that is not there, or not as it was written."""
    if file is None:
        return {}
    try:
        with np.load(file, allow_pickle=False) as kept:
            keys, vectors = kept["keys"], kept["vectors"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return {}
    return dict(zip((key.tobytes() for key in keys), vectors, strict=True)) if _whole(keys, vectors) else {}


def _whole(keys: NDArray[np.uint8], vectors: FloatArray) -> bool:
    """Whether arrays are keys (n, 16) and their vectors (n, E)."""
    return (
        (keys.dtype.name, vectors.dtype.name) == ("uint8", "float32")
        and vectors.ndim == 2
        and keys.shape == (len(vectors), _DIGEST_BYTES)
        and vectors.shape[1] <= MAX_WIDTH
        and bool(np.isfinite(vectors).all())
    )


def _write(file: Path | None, known: Known) -> None:
    if file is None:
        return
    newest = list(known.items())[-MAX_LABELS:]
    keys = np.frombuffer(b"".join(key for key, _ in newest), np.uint8).reshape(-1, _DIGEST_BYTES)
    with suppress(OSError):  # a full disk, or one that cannot be written to
        file.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(file) as partial, partial.open("wb") as opened:
            np.savez(opened, keys=keys, vectors=np.stack([vector for _, vector in newest]))
