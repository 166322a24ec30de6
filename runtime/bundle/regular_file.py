"""Files that users name, read where they are files: a pipe is not waited for, and a device has no end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_regular(path: Path, most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes. Raises ``OSError``, whose ``strerror`` says it all."""
    try:
        with os.fdopen(os.open(path, _FLAGS), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "is no regular file, but a folder, pipe or device", str(path))
            if status.st_size > most:
                raise OSError(errno.EFBIG, f"is larger than {most >> 20} MB", str(path))
            return file.read(most)  # a file of /proc says that it has none
    except ValueError as error:  # a NUL in the path
        raise OSError(errno.EINVAL, str(error), str(path)) from error
