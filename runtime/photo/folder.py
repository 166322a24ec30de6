"""The photos that a folder holds, by what they are, and a count of what else it holds."""

from __future__ import annotations

import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from edgecap.errors import UnreadFormatError
from edgecap.runtime.photo.kinds import APPLE_DOUBLE, HEAD_BYTES, kind_of

# Names of which a photo is expected: one that is none is a failure then, and not passed over.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

_OTHER = "no photo"
_FOLDER = "folder"
_SPECIAL = "pipe, socket or device"


@dataclass
class Skipped:
    """What a folder holds and is not read, counted."""

    counts: Counter[str] = field(default_factory=Counter)
    advice: dict[str, str] = field(default_factory=dict)  # by the name of a format, what to do

    def add(self, path: Path, error: UnreadFormatError) -> bool:
        """Count a file that could not be read; not one whose name says that it is a photo and that is none."""
        if not error.kind and path.suffix.lower() in EXTENSIONS:
            return False
        if error.kind != APPLE_DOUBLE.name:
            self.counts[error.kind or _OTHER] += 1
            self.advice[error.kind] = error.advice if error.kind else ""
        return True

    def __str__(self) -> str:
        """In one line, most first, such as "41 HEIC: pip install 'edgecap[heic]'; 3 that are no photos"; or empty."""
        return "; ".join(self._counted(name, count) for name, count in self.counts.most_common())

    def _counted(self, name: str, count: int) -> str:
        if name == _OTHER:
            return f"{count} that {'is no photo' if count == 1 else 'are no photos'}"
        if name == _SPECIAL:
            return f"{count} that {'is' if count == 1 else 'are'} no file"
        if name == _FOLDER:
            return f"{count} folder{'s' if count > 1 else ''}"
        return f"{count} {name}: {self.advice[name]}" if self.advice.get(name) else f"{count} {name}"


def files_in(folder: Path) -> tuple[list[Path], Skipped]:
    """The regular files of a folder that are not hidden, sorted; and what else there is. Raises ``OSError``.

    No file is opened: a pipe would wait for ever.
    """
    files, skipped = [], Skipped()
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        try:
            mode = path.stat().st_mode
        except OSError:  # a link that leads nowhere: whoever opens it will say so
            mode = stat.S_IFREG
        if stat.S_ISREG(mode):
            files.append(path)
        else:
            skipped.counts[_FOLDER if stat.S_ISDIR(mode) else _SPECIAL] += 1
    return files, skipped


def photos_in(folder: Path) -> tuple[list[Path], Skipped]:
    """The photos of a folder, sorted, by their first bytes; and what else there is. Raises ``OSError``.

    Files that are named like photos and are none, or cannot be opened, are among them: whoever reads one learns what
    is wrong with it.
    """
    files, skipped = files_in(folder)
    photos = []
    for path in files:
        try:
            with path.open("rb") as file:
                kind = kind_of(file.read(HEAD_BYTES))
        except OSError:
            photos.append(path)
            continue
        if kind is None or not kind.is_read:
            name, advice = (kind.name, kind.advice) if kind else ("", "")
            if skipped.add(path, UnreadFormatError(path, name, advice)):
                continue
        photos.append(path)
    return photos, skipped
