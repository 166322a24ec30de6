"""Calibrates confidence: the two parameters that make a probability of a caption's mean log-probability.

Platt 1999, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods", with
his regularised targets; solved as in Lin, Lin, Weng 2007, "A note on Platt's probabilistic outputs for support vector
machines": Newton's method with a line search, which no data make diverge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecap.data.karpathy import CaptionedPhoto
from edgecap.metrics.rightness import MEANING, is_right
from edgecap.runtime.bundle.confidence import Calibration, Confidence
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.search.decoding import Hypothesis

NEWTON_STEPS = 100
SMALLEST_STEP = 1e-10
RIDGE = 1e-12  # keeps the Hessian invertible when all signals are equal

Signals = NDArray[np.float64]  # (N,)
Flags = NDArray[np.bool_]  # (N,)


def calibrate(
    hypotheses: Mapping[str, Mapping[str, Hypothesis]],
    photos: Sequence[CaptionedPhoto],
    vocabulary: Vocabulary,
    protocol: Mapping[str, Any],
) -> Confidence:
    """Calibrate each set of graphs on its captions of ``photos``; ``hypotheses`` by set name and photo id.

    A caption is right when :func:`edgecap.metrics.rightness.is_right` says so. ``protocol`` says which photos these
    are, and how they were captioned.
    """
    sets = {}
    for name, found in hypotheses.items():
        signals = np.array([found[photo.id].mean_log_prob for photo in photos])
        right = np.array([is_right(vocabulary.words(found[photo.id].token_ids), photo.captions) for photo in photos])
        slope, intercept = fit_logistic(signals, right)
        sets[name] = Calibration(slope, intercept, area_under_curve(signals, right))
    return Confidence(MEANING, protocol, sets)


def fit_logistic(signals: Signals, right: Flags) -> tuple[float, float]:
    """Slope and intercept of the probability of ``right`` given ``signals``.

    The targets are (n1 + 1) / (n1 + 2) for the n1 that are right and 1 / (n0 + 2) for the n0 others: finite
    parameters come out even when all are right, or when a limit parts them.
    """
    right_count = int(right.sum())
    wrong_count = len(right) - right_count
    targets = np.where(right, (right_count + 1) / (right_count + 2), 1 / (wrong_count + 2))
    inputs = np.stack([signals, np.ones_like(signals)], axis=1)  # (N, 2)
    parameters = np.array([0.0, np.log((right_count + 1) / (wrong_count + 1))])
    loss = _cross_entropy(inputs @ parameters, targets)
    for _ in range(NEWTON_STEPS):
        probabilities = 0.5 * (1 + np.tanh(0.5 * (inputs @ parameters)))
        gradient = inputs.T @ (probabilities - targets)
        hessian = (inputs.T * (probabilities * (1 - probabilities))) @ inputs + RIDGE * np.eye(2)
        direction = np.linalg.solve(hessian, gradient)
        step = 1.0
        while step >= SMALLEST_STEP:
            tried = parameters - step * direction
            if (loss_there := _cross_entropy(inputs @ tried, targets)) < loss:
                break
            step /= 2
        else:  # nothing is left to gain
            break
        parameters, loss = tried, loss_there
    return float(parameters[0]), float(parameters[1])


def area_under_curve(signals: Signals, right: Flags) -> float | None:
    """The share of pairs of a right and another caption whose right one has the larger signal; ties count half.

    ``None`` when all are right, or none is.
    """
    of_right, of_others = np.sort(signals[right]), np.sort(signals[~right])
    if not (len(of_right) and len(of_others)):
        return None
    below = np.searchsorted(of_others, of_right, "left")
    not_above = np.searchsorted(of_others, of_right, "right")
    return float((below + not_above).sum() / (2 * len(of_right) * len(of_others)))


def _cross_entropy(logits: Signals, targets: Signals) -> float:
    return float((np.logaddexp(0, logits) - targets * logits).sum())
