"""Figures and columns for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def table(rows: Sequence[Sequence[str]], alignment: str) -> Iterator[str]:
    """Lines of aligned columns, each by its character of ``alignment``: ``<`` or ``>``."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:{side}{width}}" for cell, side, width in zip(row, alignment, widths, strict=True)]
        yield "  ".join(cells).rstrip()
