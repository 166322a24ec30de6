"""Whether what a caller gave is what an option takes, before any work is done with it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from edgecap.errors import OptionError


def whole_number(name: str, value: Any, least: int, most: int, most_name: str = "") -> int:
    """``value``, an integer of Python or numpy from ``least`` to ``most``. Raises :class:`OptionError`."""
    if not _is(value, Integral):
        raise OptionError(f"{name} must be a whole number, not {value!r:.60}")
    number = int(value)
    if not least <= number <= most:
        raise OptionError(f"{name} must be between {least} and {most_name}{most}, not {number}")
    return number


def real_number(name: str, value: Any, allowed: str, least: float, most: float) -> float:
    """``value``, a number from ``least`` to ``most``: in words, ``allowed``. Raises :class:`OptionError`."""
    real = float(value) if _is(value, Real) else None
    if real is None or not least <= real <= most:  # not NaN either
        raise OptionError(f"{name} must be {allowed}, not {value!r:.60}")
    return real


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def one_of(name: str, value: object, known: Sequence[str]) -> None:
    """Raise :class:`OptionError` for a ``value`` that is none of those ``known``."""
    if not isinstance(value, str) or value not in known:
        raise OptionError(f"{name} must be {' or '.join(map(repr, known))}, not {value!r:.60}")


def photo_list(photos: object, single: str) -> list[Any]:
    """The photos of a list, a generator and the like.

    Raises :class:`OptionError` for what is one photo itself; ``single`` names what takes that.
    """
    one = isinstance(photos, str | bytes | bytearray | os.PathLike) or hasattr(photos, "read")
    array_of_one = getattr(photos, "ndim", 4) < 4  # pixels are (H, W) or (H, W, C)
    if one or array_of_one or isinstance(photos, Mapping) or not isinstance(photos, Iterable):
        kind = type(photos).__name__
        raise OptionError(f"photos must be a list of photos, not {kind}: for a single one there is {single}")
    return list(photos)
