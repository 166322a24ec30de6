"""How a trained model's captions are generated unless the user says otherwise."""

from __future__ import annotations

from edgecap.runtime.bundle.generation import GenerationConfig
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary

# Of 0, 0.5, 0.7 and 1 the best for models/plus on Flickr8k's val: without one, beams favour short captions.
LENGTH_PENALTY = 0.7


def default_generation(vocabulary: Vocabulary) -> GenerationConfig:
    """What ``generation.json`` of a bundle will hold.

    Suppressed are marks that slipped into the captions as words of their own, such as ``(``.
    """
    words = vocabulary.tokens[len(SPECIAL_TOKENS) :]
    marks = tuple(word for word in words if not any(map(str.isalnum, word)))
    return GenerationConfig(length_penalty=LENGTH_PENALTY, suppressed_tokens=marks)
