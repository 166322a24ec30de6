"""Names of labels, of any script and of several words: when two are one, and what no name may be."""

from __future__ import annotations

import re
import unicodedata

MAX_NAME = 200  # characters: a phrase, and no page

_NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and bytes that no encoding explains


def key_of(name: str) -> str:
    """What all ways to write a name have in common: case, width, accents composed or not, and spaces do not count.

    Empty for a name of nothing but spaces.
    """
    if name.isascii():
        return " ".join(name.lower().split())
    # Caseless matching as Unicode defines it (D146): folding may take apart what was composed, and the other way round.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFD", name).casefold()).casefold()
    return " ".join(unicodedata.normalize("NFKD", folded).split())


def check_name(name: str) -> None:
    """Raise ``ValueError`` for what cannot be the name of a label."""
    if len(name) > MAX_NAME:
        raise ValueError(f"a label has at most {MAX_NAME} characters, not {len(name):,}: {name:.20}...")
    if _NO_TEXT.search(name):
        raise ValueError(f"the label {name!r} has a character that is no text")
    if not key_of(name):
        raise ValueError("a label is empty")
