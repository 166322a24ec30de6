"""What embeds words that no table has, where there is such a thing: the text side of the space of photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgecap.runtime.engines.engine import FloatArray

MINILM = "minilm-l6-v2"  # sentence vectors of all-MiniLM-L6-v2, 384 wide
EXTRA_OF_SPACE = {MINILM: "labels"}  # which extra installs what embeds words in a space


class TextSide(Protocol):
    """Words to vectors. ``edgecap.text.spaces`` has those of edgecap, which take torch;
    :func:`~edgecap.runtime.loading.load_labeller` takes any."""

    @property
    def space(self) -> str:
        """The id of the space that it embeds in, as a table of labels names its own."""
        ...

    def embed(self, words: Sequence[str]) -> FloatArray:
        """Vectors (n, E), float32, of any length but zero. May be called from several threads at once."""
        ...
