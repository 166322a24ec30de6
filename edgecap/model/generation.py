"""How a trained model's captions are generated unless the user says otherwise."""

from __future__ import annotations

from edgecap.runtime.generation import GenerationConfig
from edgecap.runtime.vocabulary import SPECIAL_TOKENS, Vocabulary


def default_generation(vocabulary: Vocabulary) -> GenerationConfig:
    """What ``generation.json`` of a bundle will hold.

    Suppressed are marks that slipped into the captions as words of their own, such as ``(``.
    """
    words = vocabulary.tokens[len(SPECIAL_TOKENS) :]
    return GenerationConfig(suppressed_tokens=tuple(word for word in words if not any(map(str.isalnum, word))))
