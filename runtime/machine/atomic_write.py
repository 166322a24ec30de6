"""Writing a file in one step: whatever happens meanwhile, there is the old one or the new one, never half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """A path to write to in the block, which takes the place of ``path`` when it ends, and is on the disk before that.

    A block that raises leaves ``path`` as it was, and nothing beside it; a process that is killed may leave a file
    ``NAME.PID.partial`` there. A link is written through, and what is no file, such as /dev/stdout, written to
    directly. Raises ``OSError``.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        yield path
        return
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")  # another process may write the same file
    try:
        yield partial
        with partial.open("rb+") as file:  # Windows syncs no file that is open for reading only
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
