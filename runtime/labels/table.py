"""``labels.json``: a table of labels, each a vector of the space that photos are embedded in, with its names.

    {"space": "clip-vit-b-32", "width": 512, "precision": "int8", "names": [["dog", "Hund"], ["beach"]],
     "vectors": "base64", "scales": "base64", "slopes": [40.0, 35.0], "intercepts": [-9.0, -8.0],
     "thresholds": [0.5, 0.4]}

Of a label's names the first is the one that it is told by; the others are synonyms, or other languages'. How likely a
photo shows it is the logistic function of ``slope * similarity + intercept``, similarity being the cosine between its
vector and the photo's. From ``threshold`` on, a probability, the label is taken to be there.

A table is made for a space, not for a model: every model whose bundle names the same space takes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecap.runtime.bundle.fields import Fields
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.labels.names import MAX_NAME, check_name, key_of
from edgecap.runtime.labels.packed import pack, unpack

MAX_LABELS = 100_000
MAX_NAMES = 10 * MAX_LABELS
MAX_WIDTH = 4096
MAX_SLOPE = 1e6  # of the logistic function, and the most that its intercept may be off zero

_DTYPES = {"int8": "int8", "fp16": "float16"}  # by precision


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The content of ``labels.json``. Raises ``ValueError`` for one that contradicts itself.

    n labels of width E: ``vectors`` (n, E) int8 or float16, of any length but zero; ``scales`` (n,) float32, by which
    rows of int8 are to be multiplied, and ``None`` of float16. The others are (n,) float32.
    """

    space: str
    names: tuple[tuple[str, ...], ...]
    vectors: NDArray[Any]
    scales: FloatArray | None
    slopes: FloatArray
    intercepts: FloatArray
    thresholds: FloatArray

    def __post_init__(self) -> None:
        if not key_of(self.space) or not self.space.isprintable() or len(self.space) > MAX_NAME:
            raise ValueError(f"labels.space must be a name, not {self.space!r:.60}")
        check_size(len(self.names), self.width)
        for name in (name for names in self.names for name in names):
            check_name(name)
        if not all(self.names):
            raise ValueError("a label has no name")
        _ = self.rows  # where a name stands twice, that is found out now
        self._check_vectors()
        _check_range("slopes", self.slopes, 1 / MAX_SLOPE, MAX_SLOPE)
        _check_range("intercepts", self.intercepts, -MAX_SLOPE, MAX_SLOPE)
        _check_range("thresholds", self.thresholds, 0, 1)

    def _check_vectors(self) -> None:
        if self.vectors.dtype.name != ("float16" if self.scales is None else "int8"):
            raise ValueError("labels.vectors must be int8 with scales, or fp16 without")
        columns = (self.vectors, self.scales, self.slopes, self.intercepts, self.thresholds)
        if any(column is not None and len(column) != len(self) for column in columns):
            raise ValueError(f"a table of {len(self):,} labels must have {len(self):,} of everything")
        if self.scales is not None:
            _check_range("scales", self.scales, 1e-30, 1e30)
        for wrong, problem in (
            (~np.isfinite(self.vectors).all(1), "is not finite"),
            (~self.vectors.any(1), "is zero"),
        ):
            if wrong.any():
                raise ValueError(f"the vector of {self.names[int(wrong.argmax())][0]!r} {problem}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def width(self) -> int:
        """The size E of a vector."""
        return int(self.vectors.shape[1])

    @property
    def precision(self) -> str:
        """What the vectors are kept as: int8 or fp16."""
        return next(name for name, dtype in _DTYPES.items() if self.vectors.dtype == dtype)

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each name, by :func:`~edgecap.runtime.labels.names.key_of`. Raises ``ValueError`` for doubles."""
        found: dict[str, int] = {}
        for row, names in enumerate(self.names):
            for name in names:
                if (key := key_of(name)) in found:
                    raise ValueError(f"the label {name!r} stands twice")
                found[key] = row
        return found

    @cached_property
    def columns(self) -> FloatArray:
        """The vectors as columns (E, n), float32, each of length 1. Scales are positive, so that they say nothing here.

        A photo's vector times this is two to three times as fast as rows times the vector, where BLAS waits for memory.
        """
        columns: FloatArray = np.ascontiguousarray(self.vectors.T, np.float32)
        columns /= np.sqrt(np.einsum("en,en->n", columns, columns))
        return columns

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return {
            "space": self.space,
            "width": self.width,
            "precision": self.precision,
            "names": [list(names) for names in self.names],
            "vectors": pack(self.vectors),
            **({} if self.scales is None else {"scales": pack(self.scales)}),
            "slopes": _plain(self.slopes),
            "intercepts": _plain(self.intercepts),
            "thresholds": _plain(self.thresholds),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LabelTable:
        """Inverse of :meth:`to_json`. Raises ``ValueError``."""
        entry = Fields(document, "labels")
        names, width = _names(entry.items("names")), entry.get("width", int)
        check_size(len(names), width)
        if (precision := entry.get("precision", str)) not in _DTYPES:
            raise ValueError(f"labels.precision must be {' or '.join(_DTYPES)}, not {precision!r:.60}")
        vectors = unpack(entry.get("vectors", str), _DTYPES[precision], (len(names), width), "labels.vectors")
        scales = None
        if precision == "int8":
            scales = unpack(entry.get("scales", str), "float32", (len(names),), "labels.scales")
        numbers = [_numbers(entry, key, len(names)) for key in ("slopes", "intercepts", "thresholds")]
        return cls(entry.get("space", str), names, vectors, scales, *numbers)


def check_size(labels: int, width: int) -> None:
    """Raise ``ValueError`` for a table of a size that none has."""
    if not 1 <= labels <= MAX_LABELS:
        raise ValueError(f"a table has 1 to {MAX_LABELS:,} labels, not {labels:,}")
    if not 1 <= width <= MAX_WIDTH:
        raise ValueError(f"labels.width must be between 1 and {MAX_WIDTH:,}, not {width}")


def _names(items: list[Any]) -> tuple[tuple[str, ...], ...]:
    """The names of each label. Thousands of them: looked at without naming the place of each."""
    if any(type(names) is not list or not names for names in items):
        raise ValueError("labels.names must be a list of lists of names, none of them empty")
    if sum(map(len, items)) > MAX_NAMES:
        raise ValueError(f"a table has at most {MAX_NAMES:,} names, not {sum(map(len, items)):,}")
    for names in items:
        if any(type(name) is not str for name in names):
            raise ValueError(f"labels.names must be lists of strings, not {names!r:.60}")
    return tuple(map(tuple, items))


def _numbers(entry: Fields, key: str, count: int) -> FloatArray:
    values = entry.items(key)
    if len(values) != count:
        raise ValueError(f"labels.{key} must be {count:,} numbers, one a label, not {len(values):,}")
    if not {*map(type, values)} <= {int, float}:
        raise ValueError(f"labels.{key} must be numbers")
    # What float32 has no room for is beyond every range below, and is none then.
    return np.clip(np.array(values, np.float64), -2 * MAX_SLOPE, 2 * MAX_SLOPE).astype(np.float32)


def _check_range(key: str, values: FloatArray, least: float, most: float) -> None:
    wrong = ~((values >= least) & (values <= most))  # NaN as well
    if wrong.any():
        raise ValueError(f"labels.{key} must be between {least:g} and {most:g}, not {values[wrong][0]:g}")


def _plain(values: FloatArray) -> list[float]:
    """The shortest numbers that are these in float32."""
    return [float(str(value)) for value in values]
