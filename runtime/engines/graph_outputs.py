"""Whether a graph is what its manifest says: tensors of these names, types and sizes, and such outputs.

A bundle can say anything of its graphs; so this is asked when they are loaded, and of every run, which takes
microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecap.errors import EngineError
from edgecap.runtime.bundle.entries import TensorSpec

Shape = Sequence[object]  # whole numbers, and anything else for a dynamic axis


def check_tensors(where: str, kind: str, found: Mapping[str, tuple[str, Shape]], listed: Sequence[TensorSpec]) -> None:
    """Hold a graph's tensors, type and shape by name, against those listed. Raises :class:`EngineError`.

    ``where`` names the graph, and ``kind`` says which of its tensors these are. A size that the graph leaves open is
    not known before it runs.
    """
    names = {tensor.name for tensor in listed}
    if set(found) != names:
        raise EngineError(f"{where} has the {kind} {sorted(found)}, its manifest lists {sorted(names)}")
    for tensor in listed:
        dtype, shape = found[tensor.name]
        same_rank = len(shape) == len(tensor.shape)
        known = [(a, b) for a, b in zip(shape, tensor.shape, strict=False) if type(a) is int and type(b) is int]
        if dtype != tensor.dtype or not same_rank or any(a != b for a, b in known):
            has = f"{dtype} ({', '.join(map(str, shape))})"
            lists = f"{tensor.dtype} ({', '.join(map(str, tensor.shape))})"
            raise EngineError(f"{where} has {tensor.name} as {has}, its manifest lists {lists}")


def checked(
    values: Mapping[str, object], listed: Sequence[TensorSpec], sizes: Mapping[str, int]
) -> dict[str, NDArray[Any]]:
    """``values``, as the arrays that they are. Raises :class:`EngineError` that names the output.

    ``sizes`` are those of the dynamic axes, by name. What a graph gives as INT8 is float32 here.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for tensor in listed:
        value, dtype = values[tensor.name], "float32" if tensor.dtype == "int8" else tensor.dtype
        if not isinstance(value, np.ndarray) or value.dtype.name != dtype:
            kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise EngineError(f"the graph made {tensor.name} of {kind}, not {dtype}")
        wanted = tuple(sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in tensor.shape)
        fits = value.ndim == len(wanted)
        if not fits or any(a != b for a, b in zip(value.shape, wanted, strict=False) if isinstance(b, int)):
            raise EngineError(f"the graph made {tensor.name} {value.shape}, not ({', '.join(map(str, wanted))})")
        arrays[tensor.name] = value
    return arrays
