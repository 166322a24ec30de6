"""Putting a whole directory in the place of another in one step."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def replace_directory(new: Path, target: Path) -> None:
    """Move ``new`` to ``target``; a directory that was there is exchanged with it at once and then removed.

    Where the kernel or the file system cannot exchange, the old directory is moved aside first: a kill between the
    two moves leaves none at ``target``, but never half of one. Both must be on one file system.
    """
    _sync(new)
    if not target.exists():
        new.rename(target)
    elif _exchange(new, target):
        shutil.rmtree(new)
    else:
        aside = new.with_name(new.name + ".old")
        target.rename(aside)
        try:
            new.rename(target)
        except OSError:
            aside.rename(target)
            raise
        shutil.rmtree(aside)


def _exchange(first: Path, second: Path) -> bool:
    if sys.platform == "linux":
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if rename is not None:
            result = rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
            return bool(result == 0)
    return False


def _sync(directory: Path) -> None:
    """Have every file on the disk before the name points to it."""
    for path in directory.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
