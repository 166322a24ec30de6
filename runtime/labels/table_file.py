"""A table of labels in a file of its own, for a labeller whose bundle has another."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from edgecap.errors import BundleError, OptionError
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.entries import MAX_TABLE_BYTES
from edgecap.runtime.bundle.json_document import read_document
from edgecap.runtime.bundle.regular_file import read_regular
from edgecap.runtime.labels.table import LabelTable


def table_for(bundle: Bundle, table: LabelTable | str | PathLike[str] | None) -> LabelTable:
    """The table that is meant: ``None`` is the bundle's own, a path is a file as the bundle's ``labels.json``.

    Raises :class:`~edgecap.errors.BundleError` for a file that is broken or cannot be read,
    :class:`~edgecap.errors.OptionError` for a table of another space, and :class:`~edgecap.errors.TaskError` for a
    bundle that is no labeller.
    """
    own = bundle.labels
    if table is None:
        return own
    if not isinstance(table, LabelTable | str | PathLike):
        raise OptionError(f"table must be a file, not {table!r:.60}")
    found = table if isinstance(table, LabelTable) else _read(Path(table))
    if (found.space, found.width) != (own.space, own.width):
        name = "the table" if isinstance(table, LabelTable) else str(table)
        raise OptionError(
            f"{name}: is a table of the space {found.space!r} ({found.width} wide), {bundle.manifest.label} embeds "
            f"photos in {own.space!r} ({own.width} wide): take a table that was made for that"
        )
    return found


def _read(path: Path) -> LabelTable:
    try:
        content = read_regular(path, MAX_TABLE_BYTES)
    except OSError as error:
        raise BundleError(path, f"cannot be read: {error.strerror}") from error
    return read_document(path, content, LabelTable.from_json)
