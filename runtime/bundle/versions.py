"""Versions, compared by their numbers."""

from __future__ import annotations

import re


def version_numbers(text: str) -> tuple[int, ...]:
    """``1.23.0rc1`` as (1, 23, 0). Raises ``ValueError`` for what does not begin with a number."""
    numbers = re.match(r"[0-9]{1,9}(\.[0-9]{1,9})*", text)
    if numbers is None:
        raise ValueError(f"{text!r:.60} is not a version")
    return tuple(int(number) for number in numbers[0].split("."))
