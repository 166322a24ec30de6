"""What a labeller gives: the labels of a photo, and what was measured on the way."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Label:
    """One label that a photo may have."""

    name: str  # as it was asked for, or else the first name that the table has
    confidence: float  # the probability that it is right, by the table's calibration
    similarity: float  # the cosine between the photo's vector and the label's


@dataclass(frozen=True)
class LabelTimings:
    """Where the time went, in milliseconds. In a batch, ``encoder_ms`` is the photo's equal share."""

    preprocess_ms: float  # from file to input tensor: reading, decoding, resizing
    encoder_ms: float
    scoring_ms: float  # from the photo's vector to its labels
    total_ms: float  # the sum of these


@dataclass(frozen=True)
class Labels:
    """The labels of a photo."""

    labels: tuple[Label, ...]  # the likeliest first; empty where none is likely enough
    timings: LabelTimings = field(compare=False)
    damaged: bool = False  # the photo is a JPEG that was cut short: what is missing of it, at most a quarter, was grey
    reason: str | None = None  # "not a photo: " and what it is instead, which was not labelled

    @property
    def names(self) -> tuple[str, ...]:
        """The labels in words."""
        return tuple(label.name for label in self.labels)
