"""Words that no table has: what is said of them, and which names come near."""

from __future__ import annotations

from collections.abc import Sequence

from edgecap.runtime.labels.names import key_of
from edgecap.runtime.labels.table import LabelTable
from edgecap.runtime.labels.text_side import EXTRA_OF_SPACE

MAX_TOLD = 3  # words that nearest names are looked for: in a large table each takes a while
MAX_NEAREST = 3


def unknown_labels(table: LabelTable, words: Sequence[str]) -> str:
    """A line about ``words`` that are no names of the table: the nearest of those, and what to do."""
    told = "; ".join(_told(table, word) for word in words[:MAX_TOLD])
    more = f"; and {len(words) - MAX_TOLD:,} more" if len(words) > MAX_TOLD else ""
    extra = EXTRA_OF_SPACE.get(table.space)
    install = f", or embed them here:  pip install 'edgecap[{extra}]'" if extra else ""
    return (
        f"not in the table of labels: {told}{more}. Ask for names that it has, or name a table that has these "
        f"(--table){install}"
    )


def _told(table: LabelTable, word: str) -> str:
    near = nearest(table, word)
    return f"{word!r} (near: {', '.join(map(repr, near))})" if near else f"{word!r} (nothing is near)"


def nearest(table: LabelTable, word: str) -> list[str]:
    """The table's names that are written most like ``word``, of any label; they may mean other things."""
    import difflib  # nobody waits for it whose words are known

    keys = difflib.get_close_matches(key_of(word), table.rows, n=MAX_NEAREST)
    return [next(name for name in table.names[table.rows[key]] if key_of(name) == key) for key in keys]
