"""Whether a caption is right about its photo: yes or no, for a confidence to be calibrated on.

Chosen on Flickr8k's val, of which 60 captions by ``models/plus`` were judged by eye beside their references: the rule
agrees with 49 of the judgements, "nothing wrong by :mod:`edgecap.metrics.contradictions`" alone with 33, and a CIDEr-D
of 0.3 or more with 44.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgecap.metrics.contradictions import names_nothing_wrong
from edgecap.metrics.word_groups import FUNCTION_WORDS

SUPPORT = (3, 5)  # the share of a caption's words that must stand in a reference
MEANING = (
    "names no person, animal or colour that the references deny, and three in five of its words, function words aside, "
    "stand in one of them"
)


def is_right(caption: Sequence[str], references: Sequence[Sequence[str]]) -> bool:
    """Whether the caption does what :data:`MEANING` says. One without words is not right."""
    words = [token for token in caption if token not in FUNCTION_WORDS]
    known = {token for reference in references for token in reference}
    least, of = SUPPORT
    supported = sum(word in known for word in words)
    return bool(words) and supported * of >= least * len(words) and names_nothing_wrong(caption, references)
