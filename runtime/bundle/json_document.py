"""JSON as the documents of a bundle hold it: of modest depth, no key twice, every number finite and of modest size."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from edgecap.errors import BundleError, brief

MAX_DEPTH = 32  # lists and objects within each other; bundles have six
MAX_DIGITS = 18  # of a whole number: what 64 bits hold
MAX_VALUES = 2**22  # about, as many commas: what is read of a table of labels, which may be long, stays small

Parsed = TypeVar("Parsed")


def read_document(path: Path, content: bytes, parse: Callable[[Any], Parsed]) -> Parsed:
    """What ``parse`` makes of the JSON file ``path``, whose ``content`` is given.

    Raises :class:`BundleError` that names the file in one line, also for a ``ValueError`` or ``OverflowError`` of
    ``parse``.
    """
    try:
        document = parse_json(content)
    except (ValueError, MemoryError) as error:
        raise BundleError(path, f"is not JSON as bundles have it: {brief(error) or 'not enough memory'}") from error
    try:
        return parse(document)
    except BundleError:
        raise
    except (ValueError, OverflowError, MemoryError) as error:  # OverflowError: whole numbers that no float holds
        raise BundleError(path, f"is wrong: {brief(error)}") from error


def parse_json(content: bytes) -> Any:
    """The document in ``content``. Raises ``ValueError`` where it is no JSON, or beyond the limits above."""
    if content.count(b",") > MAX_VALUES:
        raise ValueError(f"it has more than {MAX_VALUES:,} values")
    try:
        document = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_whole_number,
            parse_float=_number,
            parse_constant=_constant,
        )
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    level, depth = [document], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH + 1:  # one more for what the innermost ones hold
            raise ValueError(_TOO_DEEP)
        level = [child for parent in level for child in _children(parent)]
    return document


_TOO_DEEP = f"it is nested more than {MAX_DEPTH} deep"


def _children(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r:.60} stands twice in an object")
    return document


def _whole_number(text: str) -> int:
    if len(text.removeprefix("-")) > MAX_DIGITS:
        raise ValueError(f"the number {text:.20}... has more than {MAX_DIGITS} digits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text:.20} is too large")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")
