"""``confidence.json``: how likely a caption is right, from the probability that the model gave its words.

The raw signal is a caption's mean log-probability a token. Platt 1999, "Probabilistic outputs for support vector
machines and comparisons to regularized likelihood methods", makes a probability of such a signal by a logistic
function of two parameters. The export fits them for each set of graphs on the captions of its captioned photos, decoded
by the bundle's defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgecap.runtime.bundle.fields import Fields
from edgecap.runtime.bundle.typed import read

SIGNAL = "mean log-probability a token"


@dataclass(frozen=True)
class Calibration:
    """The logistic function of one set of graphs."""

    slope: float
    intercept: float
    auc: float | None = None  # how well the signal ranks right captions above others, 0.5 being chance

    def probability(self, mean_log_prob: float) -> float:
        """The probability that a caption of this mean log-probability is right."""
        # The logistic function, by a hyperbolic tangent that cannot overflow
        return 0.5 * (1 + math.tanh(0.5 * (self.slope * mean_log_prob + self.intercept)))


@dataclass(frozen=True)
class Confidence:
    """The content of ``confidence.json``."""

    right: str  # what a right caption does, as the end of the sentence "a right caption ..."
    protocol: Mapping[str, Any]  # the photos, and how their captions were decoded
    sets: Mapping[str, Calibration]  # by set name: "onnx-int8"

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return {"signal": SIGNAL, **asdict(self)}

    @classmethod
    def from_json(cls, document: Any) -> Confidence:
        """Inverse of :meth:`to_json`. Raises ``ValueError``."""
        entry = Fields(document, "confidence")
        if (signal := entry.get("signal", str)) != SIGNAL:
            raise ValueError(f"confidence.signal must be {SIGNAL!r}, not {signal!r:.60}")
        protocol = entry.object("protocol")
        protocol.get("dataset", str)
        protocol.get("split", str)
        if protocol.get("photos", int) < 1:
            raise ValueError("confidence.protocol.photos must be positive")
        return read(cls, document, "confidence")
