"""The files of a bundle on the disk: regular, its own, and what the manifest says, or they are not used."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from edgecap.errors import BundleError
from edgecap.runtime.bundle.entries import MAX_MANIFEST_BYTES, FileEntry

MANIFEST = "manifest.json"
TORN = "torn or edited; export or install it again"

# A file that was exchanged for a link or a pipe since it was looked at is neither followed nor waited for.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def check_place(root: Path, name: str) -> None:
    """Raise :class:`BundleError` unless the file ``name`` of the bundle in ``root`` is regular and its own."""
    path = root / name
    # Whichever part of the path is a link, following it ends elsewhere, or, on a loop, nowhere.
    if path.is_symlink() or path.resolve() != root.resolve() / name:
        raise BundleError(path, "is a symbolic link: a bundle holds its own files")
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleError(path, "is missing: export or install the bundle again") from error
    except OSError as error:
        raise BundleError(path, f"cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise BundleError(path, "is no regular file: export or install the bundle again")


def read_file(root: Path, entry: FileEntry) -> bytes:
    """The verified content of a file of the bundle in ``root``. Raises :class:`BundleError` that names the file."""
    check_place(root, entry.path)
    path = root / entry.path
    content = _read(path, entry.bytes)
    if content is None or len(content) != entry.bytes or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise BundleError(path, f"does not match its sha256 in {MANIFEST}: {TORN}")
    return content


def read_manifest(root: Path) -> bytes:
    """The content of the bundle's manifest. Raises :class:`BundleError`."""
    path = root / MANIFEST
    if not path.is_symlink() and not path.exists():
        raise BundleError(root, f"is not a bundle: no {MANIFEST}")
    check_place(root, MANIFEST)
    content = _read(path, MAX_MANIFEST_BYTES)
    if content is None:
        raise BundleError(path, f"is larger than {MAX_MANIFEST_BYTES} bytes")
    return content


def _read(path: Path, most: int) -> bytes | None:
    """The content of a regular file; ``None``, and nothing is read, when it has more bytes than ``most``."""
    try:
        with os.fdopen(os.open(path, _FLAGS), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(path, "is no regular file: export or install the bundle again")
            return file.read(most) if status.st_size <= most else None
    except OSError as error:
        raise BundleError(path, f"cannot be read: {error.strerror}") from error
