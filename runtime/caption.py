"""What a captioner takes and gives: a photo prepared, and its caption with what was measured on the way."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from edgecap.runtime.engines.engine import FloatArray

MIN_WORDS = 3  # of a sentence that the deadline cut: fewer, "A dog", say nothing of what is to be seen


def milliseconds_since(start: float) -> float:
    """The time since ``time.perf_counter()`` gave ``start``."""
    return (time.perf_counter() - start) * 1e3


@dataclass(frozen=True)
class Timings:
    """Where the time of one caption went, in milliseconds.

    In a batch, ``encoder_ms`` and ``steps_ms`` are the photo's equal share of what the batch took together.
    """

    preprocess_ms: float  # from file to input tensor: reading, decoding, resizing
    encoder_ms: float
    steps_ms: float  # all decoder steps and the search between them
    total_ms: float  # the sum of these
    steps: int  # decoder steps that this photo took part in


@dataclass(frozen=True)
class Alternative:
    """One of the best sentences that the search found."""

    text: str
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    log_prob: float  # natural logarithm, the sum over the words and the end of the sentence


@dataclass(frozen=True)
class Caption:
    """A sentence for a photo, and how it came about."""

    text: str  # empty where there is a reason to say none
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    log_prob: float  # natural logarithm, the sum over the words and the end of the sentence
    # (T, 7, 7): where each of the T words looked; sums to 1. None of an architecture that does not say.
    attention: FloatArray | None = field(compare=False, repr=False)
    timings: Timings = field(compare=False)
    truncated: bool = False  # cut before the sentence ended: of max_length words, or of fewer by the deadline
    # The probability that the caption is right, as confidence.json defines it; None where the bundle has none, and of a
    # caption that the deadline cut. It was calibrated for the bundle's default decoding, on photos like those of its
    # training set.
    confidence: float | None = field(default=None, compare=False)
    damaged: bool = False  # the photo is a JPEG that was cut short: what is missing of it, at most a quarter, was grey
    # Why there is no sentence: "not a photo: " and what it is instead, which was not captioned; "not sure: " and what
    # happened. None where there is one.
    reason: str | None = None
    n_best: tuple[Alternative, ...] = ()  # as many as were asked for, or could be found, best first; else empty


@dataclass(frozen=True)
class Prepared:
    """A photo that was read and preprocessed: the encoder's input (1, 3, S, S), float32."""

    tensor: FloatArray
    preprocess_ms: float
    damage: str = ""  # in words, what is missing of a JPEG that was cut short; empty for a whole photo
    reason: str | None = None  # why it is no photo, and gets no sentence; None for one that is
