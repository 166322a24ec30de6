"""What the captions of one graph set are worth, and how far they are from those of the set that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edgecap.metrics import Scores
from edgecap.metrics.quality import Quality


@dataclass(frozen=True)
class Difference:
    """Of the captions of a set from those of another, ``against``; shares are on 0..1."""

    against: str
    cider_d_change: float  # points of CIDEr-D x 100
    identical: float  # share of photos whose caption, by the default search, has the same tokens
    identical_greedy: float
    first_diverging_step: Mapping[str, int]  # captions by the word, from 1, at which they part
    passes_gate: bool

    def to_json(self) -> dict[str, Any]:
        """What ``eval.json`` has of it."""
        return {
            "CIDEr-D change": self.cider_d_change,
            "identical captions": self.identical,
            "identical greedy captions": self.identical_greedy,
            "against": self.against,
            "first diverging step": dict(self.first_diverging_step),
            "passes gate": self.passes_gate,
        }

    @property
    def text(self) -> str:
        """In words."""
        identical = f"identical captions {self.identical:.1%} (greedy {self.identical_greedy:.1%})"
        return f"against {self.against}: CIDEr-D {self.cider_d_change:+.2f}, {identical}"


class DatasetResult(NamedTuple):
    """Of one set on one of several datasets."""

    scores: Scores
    quality: Quality

    def to_json(self) -> dict[str, Any]:
        """What ``eval.json`` has of it."""
        return {**self.scores.to_json(), "quality": self.quality.to_json()}


@dataclass(frozen=True)
class SetResult:
    """Of one set on the val split; of several datasets their mean scores, and the quality of all captions."""

    scores: Scores
    quality: Quality
    difference: Difference | None = None  # None of what everything else is held against
    datasets: Mapping[str, DatasetResult] = field(default_factory=dict)  # of each, where there are several

    @property
    def passes_gate(self) -> bool | None:
        """``None`` where there is nothing to hold it against."""
        return None if self.difference is None else self.difference.passes_gate

    def to_json(self) -> dict[str, Any]:
        """What ``eval.json`` has of a set."""
        difference = {} if self.difference is None else self.difference.to_json()
        apart = {"datasets": {name: own.to_json() for name, own in self.datasets.items()}} if self.datasets else {}
        return {**self.scores.to_json(), "quality": self.quality.to_json(), **difference, **apart}
