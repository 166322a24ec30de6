"""Sentences without photos, as tokens like those of caption datasets."""

from __future__ import annotations

import re
from pathlib import Path

from edgecap.errors import DataError, brief
from edgecap.runtime.bundle.regular_file import read_regular

MAX_BYTES = 2**30

_WORD = re.compile(r"[a-z0-9]+")


def load_sentences(path: Path) -> tuple[tuple[str, ...], ...]:
    """The tokens of each line: a sentence, or an id, a tab and a sentence. Raises ``DataError``."""
    try:
        lines = read_regular(path, MAX_BYTES).decode("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(path, f"is not a readable text file: {brief(error)}") from error
    sentences = tuple(filter(None, (tokenize(line.rpartition("\t")[2]) for line in lines)))
    if not sentences:
        raise DataError(path, "holds no sentence")
    return sentences


def tokenize(text: str) -> tuple[str, ...]:
    """Lower-case words and numbers, as Karpathy's tokens: the same for 34,961 of Flickr8k's 34,995 train and val
    captions; the others hold marks such as ``#`` and ``&`` as words.
    """
    return tuple(_WORD.findall(text.lower()))
