"""Flips and random crops of training photos, the same for the same seed whatever process asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

PLAIN_VIEW, FLIPPED_VIEW = 0, 1  # the cached views that are not drawn at random


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a photo: random crops that keep at least the share ``crop`` of each side, and mirroring.

    With ``keep_aspect`` a crop keeps the same share of both sides, so that nothing is stretched when it is resized.
    """

    crop: float = 1.0
    flip: bool = False
    keep_aspect: bool = False


class Cut(NamedTuple):
    """What a view shows of a photo, in shares of its sides; then it is resized to the photo's size, or mirrored."""

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    mirrored: bool = False


WHOLE = Cut()


def random_cut(rng: np.random.Generator, how: Augmentation) -> Cut:
    """A random crop, mirrored half of the time."""
    left, top, width, height = WHOLE[:4]
    if how.crop < 1:
        shares = rng.uniform(how.crop, 1, size=2)
        width, height = shares[0], shares[0 if how.keep_aspect else 1]
        left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return Cut(left, top, width, height, bool(how.flip and rng.random() < 0.5))


def fixed_cut(view: int, rng: np.random.Generator, how: Augmentation) -> Cut:
    """Of view number ``view`` of a photo: as it is, then mirrored, then random ones."""
    if view == PLAIN_VIEW:
        return WHOLE
    if view == FLIPPED_VIEW and how.flip:
        return Cut(mirrored=True)
    return random_cut(rng, how)


def cut_out(image: Image.Image, cut: Cut) -> Image.Image:
    """What ``cut`` shows of an image, in its size."""
    if cut[:4] != WHOLE[:4]:
        width, height = image.size
        left, top = cut.left * width, cut.top * height
        # Rounding must not put the box beyond the image.
        box = (left, top, min(width, left + cut.width * width), min(height, top + cut.height * height))
        image = image.resize(image.size, Image.Resampling.BICUBIC, box=box)
    return ImageOps.mirror(image) if cut.mirrored else image
