"""Flips and random crops of training photos, the same for the same seed whatever process asks."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

PLAIN_VIEW, FLIPPED_VIEW = 0, 1  # the cached views that are not drawn at random


def random_view(image: Image.Image, rng: np.random.Generator, crop: float, flip: bool) -> Image.Image:
    """A random crop that keeps at least the share ``crop`` of each side, resized back, and flipped half of the time."""
    width, height = image.size
    if crop < 1:
        kept_width, kept_height = (side * rng.uniform(crop, 1) for side in (width, height))
        left, top = rng.uniform(0, width - kept_width), rng.uniform(0, height - kept_height)
        box = (left, top, left + kept_width, top + kept_height)
        image = image.resize(image.size, Image.Resampling.BICUBIC, box=box)
    if flip and rng.random() < 0.5:
        image = ImageOps.mirror(image)
    return image


def cached_view(image: Image.Image, view: int, rng: np.random.Generator, crop: float, flip: bool) -> Image.Image:
    """View number ``view`` of a photo: as it is, then mirrored, then random ones."""
    if view == PLAIN_VIEW:
        return image
    if view == FLIPPED_VIEW and flip:
        return ImageOps.mirror(image)
    return random_view(image, rng, crop, flip)
