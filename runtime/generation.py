"""How captions are generated: the bundle's defaults (``generation.json``) and the options of one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgecap.errors import OptionError
from edgecap.runtime.fields import Fields
from edgecap.runtime.vocabulary import END, Vocabulary

MAX_BEAM = 100
MAX_LENGTH = 200
MAX_LENGTH_PENALTY = 10.0


@dataclass(frozen=True)
class DecodingOptions:
    """Options of one search, validated once. Raises :class:`OptionError`.

    Lengths count words without ``<end>``. A finished hypothesis of ``n`` words scores
    ``log_prob / (n + 1) ** length_penalty``: 0 ranks by probability, which favours short captions; larger values
    favour longer ones.
    """

    beam: int = 5  # hypotheses kept alive; 1 is greedy decoding
    length_penalty: float = 0.0
    min_length: int = 1
    max_length: int = 20
    suppressed_ids: tuple[int, ...] = ()  # never chosen, beside <pad>, <start> and <unk>
    n_best: int = 1  # hypotheses to return; the search stops as soon as these are certain

    def __post_init__(self) -> None:
        if not 1 <= self.beam <= MAX_BEAM:
            raise OptionError(f"beam must be between 1 and {MAX_BEAM}, not {self.beam}")
        if not 1 <= self.max_length <= MAX_LENGTH:
            raise OptionError(f"max_length must be between 1 and {MAX_LENGTH}, not {self.max_length}")
        if not 0 <= self.min_length <= self.max_length:
            raise OptionError(f"min_length must be between 0 and max_length {self.max_length}, not {self.min_length}")
        if not abs(self.length_penalty) <= MAX_LENGTH_PENALTY:  # not NaN either
            allowed = f"between -{MAX_LENGTH_PENALTY:g} and {MAX_LENGTH_PENALTY:g}"
            raise OptionError(f"length_penalty must be {allowed}, not {self.length_penalty}")
        if not 1 <= self.n_best <= self.beam:
            raise OptionError(f"n_best must be between 1 and beam {self.beam}, not {self.n_best}")


@dataclass(frozen=True)
class GenerationConfig:
    """What a bundle generates by when the caller does not say otherwise."""

    beam: int = 5
    length_penalty: float = 0.0
    min_length: int = 1
    max_length: int = 20
    suppressed_tokens: tuple[str, ...] = ()

    def options(
        self,
        vocabulary: Vocabulary,
        *,
        beam: int | None = None,
        length_penalty: float | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
    ) -> DecodingOptions:
        """These defaults with the caller's changes. Raises :class:`OptionError`."""
        for token in self.suppressed_tokens:
            if token == END or token not in vocabulary.ids:
                raise OptionError(f"{token!r} cannot be suppressed: not a word of the vocabulary")
        longest = self.max_length if max_length is None else max_length
        return DecodingOptions(
            beam=self.beam if beam is None else beam,
            length_penalty=self.length_penalty if length_penalty is None else length_penalty,
            # A caller who asks for shorter captions than the bundle's minimum means it.
            min_length=min(self.min_length, longest) if min_length is None else min_length,
            max_length=longest,
            suppressed_ids=tuple(vocabulary.ids[token] for token in self.suppressed_tokens),
        )

    def to_json(self) -> dict[str, Any]:
        """The content of ``generation.json``."""
        return {**asdict(self), "suppressed_tokens": list(self.suppressed_tokens)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> GenerationConfig:
        """Inverse of :meth:`to_json`. Raises ``ValueError``."""
        entry = Fields(document, "generation")
        return cls(
            beam=entry.get("beam", int),
            length_penalty=entry.get("length_penalty", float),
            min_length=entry.get("min_length", int),
            max_length=entry.get("max_length", int),
            suppressed_tokens=entry.values("suppressed_tokens", str),
        )
