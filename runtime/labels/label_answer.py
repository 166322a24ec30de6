"""What is said of a photo's labels: in a line for people, and as JSON. The command line and a server say the same."""

from __future__ import annotations

from typing import Any

from edgecap.runtime.answer import how_made
from edgecap.runtime.labeller import Labeller
from edgecap.runtime.labels.label import Labels
from edgecap.runtime.telling import NOT_SURE


def label_line(result: Labels) -> str:
    """``dog 0.93, beach 0.41``; or in words that there is none."""
    if result.reason is not None:
        return result.reason.partition(":")[0]
    return ", ".join(f"{label.name} {label.confidence:.2f}" for label in result.labels) or NOT_SURE


def label_record(labeller: Labeller, result: Labels | str) -> dict[str, Any]:
    """All of a photo's labels, or the problem with it, to be written as JSON."""
    if isinstance(result, str):
        return {"error": result}
    return {
        "labels": [
            {"name": one.name, "confidence": round(one.confidence, 6), "similarity": round(one.similarity, 6)}
            for one in result.labels
        ],
        "reason": result.reason,
        **how_made(labeller, result),
    }
