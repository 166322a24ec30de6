"""Labels that a user writes down: with commas on the command line, or a line each in a file."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from edgecap.errors import OptionError
from edgecap.runtime.bundle.regular_file import read_regular

MAX_LIST_BYTES = 2**25  # 100,000 labels of the longest


def with_commas(text: str) -> list[str]:
    """``dog,beach,"salt, pepper"``; what is empty between commas is none. Raises :class:`OptionError`."""
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise OptionError(f"--labels: is no list with commas: {error}") from error
    return _filled(name for row in rows for name in row)


def a_line_each(file: Path) -> list[str]:
    """The lines of a text file that are not empty. Raises ``OSError``, and :class:`OptionError` for what is no text."""
    return _filled(_text(file).splitlines())


def names_a_line(file: Path) -> list[list[str]]:
    """The names of a label a line, with tabs between; raises as :func:`a_line_each`."""
    labels = [_filled(line.split("\t")) for line in _text(file).splitlines()]
    return [names for names in labels if names]


def _text(file: Path) -> str:
    try:
        return read_regular(file, MAX_LIST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OptionError(f"{file}: is no text in UTF-8") from error


def _filled(names: Iterable[str]) -> list[str]:
    return [name.strip() for name in names if name.strip()]
