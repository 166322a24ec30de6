"""Photos to time on: of any size, and free of rights."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

import edgecap.export
from edgecap.export.proof.golden_photo import PHOTO


def sample_photo(path: Path, width: int, height: int) -> Path:
    """Write a JPEG of that size, of the photo that travels with the exporter; returns its path."""
    with Image.open(Path(edgecap.export.__file__).with_name(PHOTO)) as photo:
        photo.convert("RGB").resize((width, height), Image.Resampling.BICUBIC).save(path, quality=92)
    return path
