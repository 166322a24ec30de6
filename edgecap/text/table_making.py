"""Tables of labels from names: vectors that a table has already, or that a text side makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecap.errors import OptionError
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.labels.names import key_of
from edgecap.runtime.labels.table import LabelTable
from edgecap.runtime.labels.text_side import TextSide
from edgecap.runtime.labels.wanted import chosen

_LARGEST = 127  # of int8


def table_of(
    labels: Sequence[Sequence[str]], known: LabelTable, text: TextSide | None, precision: str
) -> tuple[LabelTable, int]:
    """The table of labels by their names, the first of which is embedded; and how many ``known`` does not have.

    What ``known`` has is taken from there, other names are embedded by ``text``, with its medians as calibration.
    Raises :class:`~edgecap.errors.OptionError` for names that stand twice or can be none, and without ``text`` for such
    as are not known.
    """
    firsts = [names[0] for names in labels]
    wanted = chosen(known, firsts, text)
    if wanted.doubles:
        raise OptionError(f"the label {wanted.doubles[0]!r} stands twice")
    row = {key_of(name): number for number, name in enumerate(wanted.names)}
    order = [row[key_of(name)] for name in firsts]
    vectors, scales = _stored(wanted.columns.T[wanted.places[order]], precision)
    try:
        table = LabelTable(
            space=known.space,
            names=tuple(map(tuple, labels)),
            vectors=vectors,
            scales=scales,
            slopes=wanted.slopes[order],
            intercepts=wanted.intercepts[order],
            thresholds=wanted.thresholds[order],
        )
    except ValueError as error:
        raise OptionError(str(error)) from error
    return table, sum(key_of(name) not in known.rows for name in firsts)


def _stored(vectors: FloatArray, precision: str) -> tuple[NDArray[Any], FloatArray | None]:
    """Vectors (n, E) as int8 and the scale (n,) of each, or as float16."""
    if precision == "fp16":
        return vectors.astype(np.float16), None
    scales: FloatArray = np.abs(vectors).max(axis=1) / _LARGEST  # (n,)
    return np.rint(vectors / scales[:, None]).astype(np.int8), scales
