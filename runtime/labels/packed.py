"""Arrays in JSON: base64 of their little-endian bytes, in C order."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack(array: NDArray[Any]) -> str:
    """The text of an array; its type and shape are said elsewhere."""
    return base64.b64encode(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()).decode("ascii")


def unpack(text: str, dtype: str, shape: Sequence[int], where: str) -> NDArray[Any]:
    """Inverse of :func:`pack`, in memory that cannot be written to. ``where`` names the field in errors.

    Raises ``ValueError`` for a text of another size, before it is decoded, and for one that is no base64.
    """
    kind = np.dtype(dtype)
    size = kind.itemsize * int(np.prod(shape, dtype=np.int64))
    wanted = 4 * -(-size // 3)
    if len(text) != wanted:
        count = " x ".join(map(str, shape))
        raise ValueError(f"{where} has {len(text):,} characters, {count} of {kind.name} take {wanted:,}")
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"{where} is no base64: {error}") from error
    if len(content) != size:
        raise ValueError(f"{where} holds {len(content):,} bytes, not {size:,}")
    return np.frombuffer(content, kind.newbyteorder("<")).astype(kind, copy=False).reshape(shape)
