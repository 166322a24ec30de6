"""Why a bundle does not know how likely its captions are right."""

from __future__ import annotations

from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.documents import read_evaluation
from edgecap.wording import counted


def why_uncalibrated(bundle: Bundle) -> str:
    """The reason for a set of graphs without calibration, and what to do. Raises :class:`BundleError`."""
    if bundle.confidence is not None:
        others = ", ".join(sorted(bundle.confidence.sets)) or "none"
        return f"of its graphs these have one: {others} (--engine, --precision)"
    evaluation = read_evaluation(bundle)
    if evaluation is None:
        return "it was exported without --data, whose val photos it takes: export it again with them"
    photos = evaluation["protocol"]["photos"]
    return f"it was exported with {counted(photos, 'val photo')}, too few to calibrate on: export it again with more"
