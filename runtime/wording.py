"""Numbers as people read them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 photo``, ``2 photos``, ``1,000 photos``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def human_bytes(size: int) -> str:
    """``117 B``, ``4.1 kB``, ``11.5 MB``, ``3.2 GB``."""
    if size < 1000:
        return f"{size} B"
    for unit, name in ((1e3, "kB"), (1e6, "MB")):
        if size < 999.95 * unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1e9:.1f} GB"


def lasting(seconds: float) -> str:
    """``40 seconds``, ``12 minutes``, ``2.5 hours``."""
    if seconds < 90:
        return counted(round(seconds), "second")
    return counted(round(seconds / 60), "minute") if seconds < 5400 else f"{seconds / 3600:.1f} hours"
