"""What ``edgecap caption`` says of a caption: in a line, and as JSON."""

from __future__ import annotations

import math
from typing import Any

from edgecap.cli.calibration import why_uncalibrated
from edgecap.errors import OptionError
from edgecap.runtime import Alternative, Caption, Captioner
from edgecap.runtime.telling import NOT_SURE


def check_min_confidence(captioner: Captioner, least: float | None) -> None:
    """Raise :class:`OptionError` for a limit that no caption of this captioner can be held against."""
    if least is None:
        return
    if math.isnan(least):
        raise OptionError("--min-confidence must be between 0 and 1, not nan")
    if captioner.calibration is None:
        graphs = captioner.graph_set.name
        label = captioner.bundle.manifest.label
        why = why_uncalibrated(captioner.bundle)
        raise OptionError(f"--min-confidence: {label} has no calibration for {graphs}: {why}")


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
    """What ``--json`` says of a photo beside its path."""
    if isinstance(result, str):
        return {"error": result}
    timings = result.timings
    milliseconds = {
        "preprocess": timings.preprocess_ms,
        "encoder": timings.encoder_ms,
        "steps": timings.steps_ms,
        "total": timings.total_ms,
    }
    return {
        "caption": result.text if result.reason is None else None,
        "reason": result.reason,
        "confidence": result.confidence,
        **({} if min_confidence is None else {"sure": is_sure(result, min_confidence)}),
        "log_prob": result.log_prob if result.tokens else None,
        "tokens": list(result.tokens),
        **({"n_best": [alternative(one) for one in result.n_best]} if n_best else {}),
        "truncated": result.truncated,
        "damaged": result.damaged,
        "timings_ms": {name: round(value, 3) for name, value in milliseconds.items()},
        "bundle": captioner.bundle.manifest.label,
        "engine": captioner.engine,
        "library": captioner.loaded.name,
        "precision": captioner.precision,
    }


def alternative(one: Alternative) -> dict[str, Any]:
    """One of ``"n_best"``."""
    return {"text": one.text, "log_prob": one.log_prob, "tokens": list(one.tokens)}
