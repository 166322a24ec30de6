"""What embeds words that no table has, where there is such a thing: the text side of the space of photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgecap.runtime.engines.engine import FloatArray


class TextSide(Protocol):
    """Words to vectors. None comes with this version; :func:`~edgecap.runtime.loading.load_labeller` takes any."""

    @property
    def space(self) -> str:
        """The id of the space that it embeds in, as a table of labels names its own."""
        ...

    def embed(self, words: Sequence[str]) -> FloatArray:
        """Vectors (n, E), float32, of any length but zero. May be called from several threads at once."""
        ...
