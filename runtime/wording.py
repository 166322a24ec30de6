"""Numbers as people read them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 photo``, ``2 photos``, ``1,000 photos``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
