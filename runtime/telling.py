"""From what the search found of a photo to the caption that its caller gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.confidence import Calibration
from edgecap.runtime.bundle.generation import DecodingOptions
from edgecap.runtime.caption import MIN_WORDS, Alternative, Caption, Prepared, Timings
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.search.decoding import Hypothesis

NOT_SURE = "not sure"


@dataclass(frozen=True)
class Teller:
    """Makes the captions of one call; ``encoder_ms`` and ``steps_ms`` are the share of each photo."""

    bundle: Bundle
    calibration: Calibration | None
    options: DecodingOptions
    encoder_ms: float = 0.0
    steps_ms: float = 0.0

    def caption(self, photo: Prepared, hypotheses: Sequence[Hypothesis], alternatives: bool) -> Caption:
        """The caption of a photo, of whose ``hypotheses`` the first is the best."""
        vocabulary, best = self.bundle.vocabulary, hypotheses[0]
        # Of fewer words than were allowed; it was calibrated on sentences
        cut = not best.finished and len(best.token_ids) < self.options.max_length
        unsure = cut and len(best.token_ids) < MIN_WORDS
        return Caption(
            text="" if unsure else vocabulary.sentence(best.token_ids),
            tokens=vocabulary.words(best.token_ids),
            token_ids=best.token_ids,
            log_prob=best.log_prob,
            attention=_map(best.attention),
            timings=self._timings(photo, best.steps),
            truncated=not best.finished,
            confidence=None if cut or self.calibration is None else self.calibration.probability(best.mean_log_prob),
            damaged=bool(photo.damage),
            reason=_too_short(len(best.token_ids)) if unsure else None,
            n_best=tuple(map(self._alternative, hypotheses)) if alternatives and not unsure else (),
        )

    def nothing(self, photo: Prepared) -> Caption:
        """The caption of what is no photo: none."""
        locations = self.bundle.manifest.dims.get("locations")
        nowhere = None if locations is None else _map(np.zeros((0, locations), np.float32))
        return Caption(
            "", (), (), 0.0, nowhere, self._timings(photo, 0), damaged=bool(photo.damage), reason=photo.reason
        )

    def _alternative(self, found: Hypothesis) -> Alternative:
        vocabulary = self.bundle.vocabulary
        text, words = vocabulary.sentence(found.token_ids), vocabulary.words(found.token_ids)
        return Alternative(text, words, found.token_ids, found.log_prob)

    def _timings(self, photo: Prepared, steps: int) -> Timings:
        encoder_ms, steps_ms = (self.encoder_ms, self.steps_ms) if steps else (0.0, 0.0)
        total_ms = photo.preprocess_ms + encoder_ms + steps_ms
        return Timings(photo.preprocess_ms, encoder_ms, steps_ms, total_ms, steps)


def _map(attention: FloatArray | None) -> FloatArray | None:
    """(T, L) -> (T, 7, 7), where the locations are those of a square."""
    if attention is None:
        return None
    words, locations = attention.shape
    side = math.isqrt(locations)
    return attention.reshape(words, side, side) if side * side == locations else attention


def _too_short(words: int) -> str:
    return f"{NOT_SURE}: there was time for {words} word{'s' if words > 1 else ''}, {MIN_WORDS} are the least"
