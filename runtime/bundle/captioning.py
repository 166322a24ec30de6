"""The documents of a captioner's bundle: its words, how it makes sentences of them, and how likely these are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgecap.errors import BundleError
from edgecap.runtime.bundle.confidence import Confidence
from edgecap.runtime.bundle.generation import GenerationConfig
from edgecap.runtime.bundle.json_document import read_document
from edgecap.runtime.bundle.tasks import Dims
from edgecap.runtime.bundle.vocabulary import Vocabulary


@dataclass(frozen=True)
class Captioning:
    """``vocab.json``, ``generation.json`` and ``confidence.json``."""

    vocabulary: Vocabulary
    generation: GenerationConfig
    confidence: Confidence | None = None  # of a bundle that was calibrated on captioned photos

    @classmethod
    def read(cls, contents: Mapping[str, tuple[Path, bytes]]) -> Captioning:
        """From paths and contents by role. Raises :class:`BundleError` that names the file that is wrong."""
        return cls(
            vocabulary=read_document(*contents["vocab"], Vocabulary.from_json),
            generation=read_document(*contents["generation"], GenerationConfig.from_json),
            confidence=read_document(*contents["confidence"], Confidence.from_json)
            if "confidence" in contents
            else None,
        )

    def check(self, bundle: Path, dims: Dims) -> None:
        """Whether the documents fit each other and ``dims``. Raises :class:`BundleError`."""
        if len(self.vocabulary) != dims["vocab_size"]:
            raise BundleError(bundle, f"has {len(self.vocabulary)} words, its manifest says {dims['vocab_size']}")
        try:
            self.generation.options(self.vocabulary)
        except ValueError as error:
            raise BundleError(bundle, f"has a wrong generation.json: {error}") from error
