"""Whether what a graph gave is what its role gives: arrays of float32, of sizes that fit each other and its inputs.

A bundle can say anything of its graphs; so this is asked of every run, which takes microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgecap.errors import EngineError
from edgecap.runtime.engines.engine import FloatArray

# Axes by name, as in edgecap.runtime.engines.engine
ENCODER_AXES = {"features": "NLD", "keys": "NLA", "h0": "NH", "c0": "NH"}
STEP_AXES = {"log_probs": "NKV", "h_next": "NKH", "c_next": "NKH", "alpha": "NKL"}


def checked(values: Sequence[object], axes: Mapping[str, str], sizes: dict[str, int]) -> list[FloatArray]:
    """``values`` in the order of ``axes``, as the arrays that they are.

    ``sizes`` has those axes whose size is known, and gets the others as they are first seen. Raises
    :class:`EngineError` that names the output.
    """
    arrays = []
    for (name, letters), value in zip(axes.items(), values, strict=True):
        if not isinstance(value, np.ndarray) or value.dtype != np.float32:
            kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise EngineError(f"the graph made {name} of {kind}, not float32")
        fits = value.ndim == len(letters)
        for axis, size in zip(letters, value.shape, strict=False):
            fits = fits and sizes.setdefault(axis, size) == size
        if not fits:
            wanted = ", ".join(str(sizes.get(axis, axis)) for axis in letters)
            raise EngineError(f"the graph made {name} {value.shape}, not ({wanted})")
        arrays.append(value)
    return arrays
