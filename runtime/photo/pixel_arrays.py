"""Photos that are arrays of pixels already."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ACCEPTED = "uint8 or uint16 array (H, W), (H, W, 3) or (H, W, 4)"

_CHANNELS = (1, 3, 4)  # grey, RGB, RGBA


def image_of(pixels: NDArray[Any]) -> Image.Image | None:
    """Grey, RGB or RGBA pixels as an image, or ``None`` for an array of another kind.

    Numbers of 16 bits are 0 to 65535; where they are colours, the image has the 8 bits that matter.
    """
    whole = pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2
    if not whole or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in _CHANNELS):
        return None
    grey = pixels.ndim == 2 or pixels.shape[2] == 1
    if grey:
        pixels = pixels.reshape(pixels.shape[:2])
    if pixels.dtype.itemsize == 2:
        native = pixels.astype(np.uint16, copy=False)  # whatever the order of its bytes
        pixels = native if grey else np.rint(native * np.float32(1 / 257)).astype(np.uint8)
    return Image.fromarray(pixels)
