"""The public-domain photo that every bundle carries, with what its graphs make of it."""

from __future__ import annotations

from importlib.resources import files

PHOTO = "astronaut.png"  # Eileen Collins, NASA, 1999: public domain; 256 x 256, from scikit-image's data
CREDIT = "NASA, portrait of astronaut Eileen Collins, 1999; public domain"


def golden_photo() -> bytes:
    """The photo, a PNG: every decoder gives the same pixels."""
    return files("edgecap.export").joinpath(PHOTO).read_bytes()
