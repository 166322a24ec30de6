"""What is no photo, and gets no sentence: a strip, one colour, noise, a flat drawing.

A captioner has a sentence for anything: of a black square it says that a dog runs through the grass. So the pixels are
looked at before. ``python -m edgecap.benchmarks.photo_kinds DIR`` tells what is measured of a folder of photos, and how
many of them are taken for something else; the limits are far from what photos have. Fog, night and snow are photos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecap.runtime.engines.engine import FloatArray

NOT_A_PHOTO = "not a photo"

MAX_ASPECT = 8  # beyond it an image that is squashed to a square shows nothing any more
# One colour: little deviation from the mean, and nowhere much. A photo of the sky with a bird in it deviates by little,
# but for the bird; fog leaves more contrast than that; a lens that is covered has the noise of the sensor.
MIN_DEVIATION = 3.0  # of 255
MIN_RANGE = 40.0
# Noise: pixels that are drawn independently have nothing in common with those some way off, whatever scaling and JPEG
# did to their neighbours; JPEG makes blocks of 8. Gravel and leaves have; birds in an empty sky have not, but each
# is of several pixels. In a thumbnail a few pixels are a long way in a photo, too.
MAX_CORRELATIONS = {1: 0.6, 4: 0.2, 8: 0.1}  # by distance in pixels
_TINY, MAX_CORRELATIONS_TINY = 48, {1: 0.35}
_SCALED = 10_000  # pixels: an image of fewer is looked at as it is
# Flat drawings: the share of pixels that equal their neighbours to the right and below, of all and of those that differ
# from the commonest grey. A sky may be as flat, and a night or snow where they are clipped; what is in them is not.
MIN_FLAT = 0.82
MIN_DRAWN, MIN_DRAWN_FLAT = 0.08, 0.6  # of all pixels; of those, as at the edges of a drawing colours mix
_ANOTHER_GREY = 24

_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # of R, G, B in grey


@dataclass(frozen=True)
class Look:
    """What is measured of an image's pixels."""

    deviation: float  # the standard deviation of the grey values, or where it is small of R, G or B; of 255
    range: float  # between the least and the largest of them
    # Of pixels so far apart, to the right or below: whichever is larger; but of the next ones whichever is smaller
    # where the image may have been made square, and so enlarged in one direction.
    correlations: dict[int, float]
    most: dict[int, float]  # what they are less than in noise of this size
    flat: float  # the share of pixels that equal their neighbours
    drawn_flat: float  # of those of another grey than most; 0 where they are few, or the share above is small

    @property
    def is_blank(self) -> bool:
        """Whether it is of one colour."""
        return self.deviation < MIN_DEVIATION and self.range < MIN_RANGE

    @property
    def is_noise(self) -> bool:
        """Whether its pixels have nothing in common."""
        return all(self.correlations[distance] < limit for distance, limit in self.most.items())

    @property
    def is_flat(self) -> bool:
        """Whether it is drawn in flat colours."""
        return self.flat > MIN_FLAT and self.drawn_flat > MIN_DRAWN_FLAT


def why_not_a_photo(pixels: NDArray[np.uint8], size: tuple[int, int]) -> str | None:
    """In words why RGB pixels (H, W, 3) of an image are none of a photo, or ``None``.

    ``size`` is the image's width and height; ``pixels`` may be of a scaled one, but not of one that was enlarged:
    between pixels that were set apart all is smooth.
    """
    if max(size) > MAX_ASPECT * min(size):
        return f"{NOT_A_PHOTO}: a strip of {size[0]} x {size[1]} pixels"
    look = look_at(pixels)
    kinds = {"one colour": look.is_blank, "noise": look.is_noise, "a flat drawing": look.is_flat}
    return next((f"{NOT_A_PHOTO}: {kind}" for kind, found in kinds.items() if found), None)


def look_at(pixels: NDArray[np.uint8]) -> Look:
    """Measure RGB pixels (H, W, 3)."""
    grey: FloatArray = pixels.astype(np.float32) @ _WEIGHTS  # (H, W)
    centred = grey - grey.mean()
    variance = float(np.vdot(centred, centred)) / grey.size
    deviation, span = variance**0.5, float(grey.max() - grey.min())
    if deviation < MIN_DEVIATION:  # colours may differ that are equally light
        deviation, span = float(pixels.std((0, 1)).max()), float(np.ptp(pixels, (0, 1)).max())
    most = MAX_CORRELATIONS_TINY if min(grey.shape) < _TINY else MAX_CORRELATIONS
    correlations = {distance: _correlation(centred, distance, variance) for distance in most}
    inner = grey[:-1, :-1]
    same = (inner == grey[:-1, 1:]) & (inner == grey[1:, :-1])
    flat = float(same.mean())
    drawn_flat = _drawn_flat(inner, same) if flat > MIN_FLAT else 0.0  # hardly ever, and it takes longer than the rest
    return Look(deviation, span, correlations, most, flat, drawn_flat)


def _drawn_flat(grey: FloatArray, same: NDArray[np.bool_]) -> float:
    commonest = np.bincount(grey[same].astype(np.uint8)).argmax()
    drawn = same[np.abs(grey - commonest) > _ANOTHER_GREY]
    return float(drawn.mean()) if drawn.size > MIN_DRAWN * grey.size else 0.0


def _correlation(centred: FloatArray, distance: int, variance: float) -> float:
    """The one that counts of the correlations in a row and in a column."""
    pairs = ((centred[:, distance:], centred[:, :-distance]), (centred[distance:], centred[:-distance]))
    both = [float(np.einsum("ij,ij->", one, other)) / (one.size * variance + 1e-9) for one, other in pairs]
    return min(both) if distance == 1 and centred.size >= _SCALED else max(both)
