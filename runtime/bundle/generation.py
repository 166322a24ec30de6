"""How captions are generated: the bundle's defaults (``generation.json``) and the options of one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgecap.errors import OptionError
from edgecap.runtime.arguments import real_number, whole_number
from edgecap.runtime.bundle.typed import read
from edgecap.runtime.bundle.vocabulary import END, Vocabulary

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
        whole_number("beam", self.beam, 1, MAX_BEAM)
        whole_number("max_length", self.max_length, 1, MAX_LENGTH)
        whole_number("min_length", self.min_length, 0, self.max_length, "max_length ")
        limit = MAX_LENGTH_PENALTY
        real_number("length_penalty", self.length_penalty, f"between -{limit:g} and {limit:g}", -limit, limit)
        whole_number("n_best", self.n_best, 1, self.beam, "beam ")


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
        n_best: int | None = None,
    ) -> DecodingOptions:
        """These defaults with the caller's changes. Raises :class:`OptionError`."""
        for token in self.suppressed_tokens:
            if token == END or token not in vocabulary.ids:
                raise OptionError(f"{token!r} cannot be suppressed: not a word of the vocabulary")
        longest = self.max_length if max_length is None else whole_number("max_length", max_length, 1, MAX_LENGTH)
        return DecodingOptions(
            beam=self.beam if beam is None else beam,
            length_penalty=self.length_penalty if length_penalty is None else length_penalty,
            # A caller who asks for shorter captions than the bundle's minimum means it.
            min_length=min(self.min_length, longest) if min_length is None else min_length,
            max_length=longest,
            suppressed_ids=tuple(vocabulary.ids[token] for token in self.suppressed_tokens),
            n_best=1 if n_best is None else n_best,
        )

    def to_json(self) -> dict[str, Any]:
        """The content of ``generation.json``."""
        return {**asdict(self), "suppressed_tokens": list(self.suppressed_tokens)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> GenerationConfig:
        """Inverse of :meth:`to_json`. Raises ``ValueError``."""
        return read(cls, document, "generation")
