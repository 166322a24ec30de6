"""The words of a captioner: ids, special tokens, and how tokens become a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from edgecap.runtime.bundle.typed import read

PAD, START, END, UNK = "<pad>", "<start>", "<end>", "<unk>"
SPECIAL_TOKENS = (PAD, START, END, UNK)

MAX_TOKEN = 1000  # characters
MAX_GROWTH = 8  # how many times as long the replacements may make a sentence


@dataclass(frozen=True)
class Detokenizer:
    """Rules that turn tokens into a sentence."""

    capitalize_first: bool = True
    final: str = "."
    # In order, on the words with a space on either side. Karpathy's tokens have lost apostrophes and hyphens.
    replacements: tuple[tuple[str, str], ...] = ((" s ", "'s "), (" t shirt", " t-shirt"))

    def __post_init__(self) -> None:
        growth = [len(new) / max(1, len(old)) for old, new in self.replacements]
        if not all(old for old, _ in self.replacements):
            raise ValueError("a replacement of the detokenizer replaces nothing")
        if math.prod(max(1.0, factor) for factor in growth) > MAX_GROWTH or len(self.final) > MAX_TOKEN:
            raise ValueError(f"the detokenizer makes a sentence more than {MAX_GROWTH} times as long")

    def __call__(self, tokens: Iterable[str]) -> str:
        """Join ``tokens``: ``["a", "dog"] -> "A dog."``; no tokens give an empty string."""
        text = f" {' '.join(tokens)} "
        for old, new in self.replacements:
            text = text.replace(old, new)
        text = text.strip()
        if not text:
            return ""
        if self.capitalize_first:
            text = text[0].upper() + text[1:]
        return text + self.final


@dataclass(frozen=True)
class Vocabulary:
    """Ordered tokens; the id of a token is its position. The special tokens stand first, in fixed order."""

    tokens: tuple[str, ...]
    detokenizer: Detokenizer = field(default_factory=Detokenizer)

    pad_id: ClassVar[int] = 0
    start_id: ClassVar[int] = 1
    end_id: ClassVar[int] = 2
    unk_id: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if self.tokens[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS:
            raise ValueError(f"a vocabulary starts with {', '.join(SPECIAL_TOKENS)}")
        if len(set(self.tokens)) != len(self.tokens):
            raise ValueError("a vocabulary names no token twice")
        if any(len(token) > MAX_TOKEN for token in self.tokens):
            raise ValueError(f"a vocabulary has no token of more than {MAX_TOKEN} characters")

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def ids(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    def encode(self, words: Iterable[str]) -> list[int]:
        """Ids of ``words``; a word outside the vocabulary becomes ``<unk>``."""
        return [self.ids.get(word, self.unk_id) for word in words]

    def words(self, token_ids: Iterable[int]) -> tuple[str, ...]:
        """Words of ``token_ids`` up to ``<end>``, without special tokens."""
        words: list[str] = []
        for index in token_ids:
            if index == self.end_id:
                break
            if index >= len(SPECIAL_TOKENS):
                words.append(self.tokens[index])
        return tuple(words)

    def sentence(self, token_ids: Iterable[int]) -> str:
        """The sentence that ``token_ids`` spell."""
        return self.detokenizer(self.words(token_ids))

    def to_json(self) -> dict[str, Any]:
        """The content of a bundle's ``vocab.json``."""
        return {
            "tokens": list(self.tokens),
            "special_ids": {token: index for index, token in enumerate(SPECIAL_TOKENS)},
            "detokenizer": asdict(self.detokenizer),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Vocabulary:
        """Inverse of :meth:`to_json`. Raises ``ValueError``."""
        return read(cls, document, "vocab")
