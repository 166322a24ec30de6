"""Vectors of length 1, of which a matrix product gives the cosines."""

from __future__ import annotations

import numpy as np

from edgecap.errors import EngineError
from edgecap.runtime.engines.engine import FloatArray


def unit_vectors(vectors: FloatArray, what: str) -> FloatArray:
    """Vectors (n, E), float32, each made to be of length 1.

    Raises :class:`~edgecap.errors.EngineError` for one that has no direction; ``what`` says what made it.
    """
    lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(1, keepdims=True))  # (n, 1)
    if not np.isfinite(lengths).all():
        raise EngineError(f"{what} made a vector that is not finite")
    if not lengths.all():
        raise EngineError(f"{what} made a vector that is zero")
    unit: FloatArray = (vectors / lengths).astype(np.float32)
    return unit
