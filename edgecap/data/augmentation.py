"""Flips and random crops of training photos, the same for the same seed whatever process asks."""

from __future__ import annotations

from dataclasses import dataclass

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


def random_view(image: Image.Image, rng: np.random.Generator, how: Augmentation) -> Image.Image:
    """A random crop, resized to the image's size, and flipped half of the time."""
    width, height = image.size
    if how.crop < 1:
        shares = rng.uniform(how.crop, 1, size=2)
        kept_width, kept_height = width * shares[0], height * shares[0 if how.keep_aspect else 1]
        left, top = rng.uniform(0, width - kept_width), rng.uniform(0, height - kept_height)
        box = (left, top, left + kept_width, top + kept_height)
        image = image.resize(image.size, Image.Resampling.BICUBIC, box=box)
    if how.flip and rng.random() < 0.5:
        image = ImageOps.mirror(image)
    return image


def cached_view(image: Image.Image, view: int, rng: np.random.Generator, how: Augmentation) -> Image.Image:
    """View number ``view`` of a photo: as it is, then mirrored, then random ones."""
    if view == PLAIN_VIEW:
        return image
    if view == FLIPPED_VIEW and how.flip:
        return ImageOps.mirror(image)
    return random_view(image, rng, how)
