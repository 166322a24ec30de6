"""What is said of a photo: in lines for people, and as JSON. The command line and a server say the same."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from edgecap.errors import OptionError
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.documents import read_evaluation
from edgecap.runtime.bundle.tasks import TASKS
from edgecap.runtime.caption import Alternative, Caption
from edgecap.runtime.captioner import Captioner
from edgecap.runtime.labels.label import Labels
from edgecap.runtime.model import Model
from edgecap.runtime.telling import NOT_SURE
from edgecap.runtime.verify.self_check import self_check
from edgecap.runtime.wording import counted


def check_min_confidence(captioner: Captioner, least: float | None) -> None:
    """Raise :class:`~edgecap.errors.OptionError` for a limit that no caption of this captioner can be held against."""
    if least is None:
        return
    if math.isnan(least) or not 0 <= least <= 1:
        raise OptionError(f"min_confidence must be between 0 and 1, not {least:g}")
    if captioner.calibration is None:
        label, graphs = captioner.bundle.manifest.label, captioner.graph_set.name
        why = _why_uncalibrated(captioner.bundle)
        raise OptionError(f"min_confidence: {label} has no calibration for {graphs}: {why}")


def _why_uncalibrated(bundle: Bundle) -> str:
    """The reason for a set of graphs without calibration, and what to do. Raises ``BundleError``."""
    if bundle.confidence is not None:
        others = ", ".join(sorted(bundle.confidence.sets)) or "none"
        return f"of its graphs these have one: {others} (--engine, --precision)"
    evaluation = read_evaluation(bundle)
    if evaluation is None:
        return "it was exported without --data, whose val photos it takes: export it again with them"
    photos = evaluation["protocol"]["photos"]
    return f"it was exported with {counted(photos, 'val photo')}, too few to calibrate on: export it again with more"


def doubt(model: Model[Any]) -> str | None:
    """A line that says that the graphs do not do here what they did where they were exported; ``None`` if they do.

    Takes the time of three answers, once for each machine, bundle and version of the engine: ``self_check``.
    """
    problem = self_check(model)
    return problem and (
        f"{TASKS[model.task].answers} may be wrong: on this machine the golden photo of {model.bundle.manifest.label} "
        f"is not what was recorded ({problem}): try another --precision or --engine, and see  edgecap doctor"
    )


def is_sure(caption: Caption, least: float | None) -> bool:
    """Whether the caption is as likely right as was asked for."""
    if caption.reason is not None:
        return False
    return least is None or (caption.confidence is not None and caption.confidence >= least)


def said(caption: Caption, least: float | None) -> list[str]:
    """The lines for people: the caption or, best first, the captions; or in words that there is none."""
    if caption.reason is not None:
        return [caption.reason.partition(":")[0]]
    if not is_sure(caption, least):
        return [NOT_SURE]
    return [alternative.text for alternative in caption.n_best] or [caption.text]


def record(captioner: Captioner, result: Caption | str, min_confidence: float | None, n_best: bool) -> dict[str, Any]:
    """All of a caption but its attention, or the problem with its photo, to be written as JSON."""
    if isinstance(result, str):
        return {"error": result}
    return {
        "caption": result.text if result.reason is None else None,
        "reason": result.reason,
        "confidence": result.confidence,
        **({} if min_confidence is None else {"sure": is_sure(result, min_confidence)}),
        "log_prob": result.log_prob if result.tokens else None,
        "tokens": list(result.tokens),
        **({"n_best": [_alternative(one) for one in result.n_best]} if n_best else {}),
        "truncated": result.truncated,
        **how_made(captioner, result),
    }


def how_made(model: Model[Any], result: Caption | Labels) -> dict[str, Any]:
    """The last fields of every answer: whether the photo was whole, what took how long, and what made it."""
    timings = dataclasses.asdict(result.timings)
    return {
        "damaged": result.damaged,
        "timings_ms": {
            name.removesuffix("_ms"): round(value, 3) for name, value in timings.items() if name.endswith("_ms")
        },
        "bundle": model.bundle.manifest.label,
        "engine": model.engine,
        "library": model.loaded.name,
        "precision": model.precision,
    }


def _alternative(one: Alternative) -> dict[str, Any]:
    return {"text": one.text, "log_prob": one.log_prob, "tokens": list(one.tokens)}
