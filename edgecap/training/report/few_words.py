"""A warning of a dataset whose words are too rare to be learnt."""

from __future__ import annotations

from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.runtime.wording import counted

FEW_WORDS = 50  # fewer are worth a warning; Flickr8k has 2,500


def few_words(vocabulary: Vocabulary, min_count: int) -> str | None:
    """A warning of a vocabulary that no photo can be described with."""
    words = len(vocabulary) - len(SPECIAL_TOKENS)
    if words >= FEW_WORDS:
        return None
    known = f"only {counted(words, 'word')}" if words else "no word"
    often = "once" if min_count == 1 else f"{min_count} times"
    return f"warning: {known} of train's captions, where a word must stand {often} (min_count), is all that can be said"
