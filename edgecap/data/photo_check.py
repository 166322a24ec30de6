"""Which photos can be read: found before hours of work, not in the middle of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgecap.data.omissions import PHOTO, Omissions
from edgecap.errors import ImageError
from edgecap.runtime.machine.probes import USEFUL_CORES, usable_cores
from edgecap.runtime.photo.reading import opened, to_rgb

_SMALLEST_DRAFT = 1  # pixels: a JPEG's data are all read, but most of its pixels are not computed


def photo_problem(path: Path) -> str | None:
    """What is wrong with a photo, as the end of a sentence; ``None`` where it can be read."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return "is no file" if path.exists() else "is missing"
        with opened(path, draft_size=_SMALLEST_DRAFT) as photo:
            to_rgb(photo.image)
            if photo.damage:
                return photo.damage
    except ImageError as error:
        return error.problem
    except OSError as error:  # a name that is longer than any can be
        return f"cannot be opened: {error.strerror}"
    return None


def readable_paths(paths: Sequence[Path], omissions: Omissions) -> Iterator[Path]:
    """Those of photos that can be read; the others are left out."""
    for path, problem in zip(paths, photo_problems(paths), strict=True):
        if problem is None:
            yield path
        else:
            omissions.leave_out(PHOTO, f"photo {path}", problem)


def photo_problems(paths: Iterable[Path]) -> Iterator[str | None]:
    """The same of many, in their order."""
    with ThreadPoolExecutor(min(USEFUL_CORES, usable_cores())) as pool:
        yield from pool.map(photo_problem, paths)
