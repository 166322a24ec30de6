"""The calibration of confidence: a logistic function fitted to what was right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bundle import VOCABULARY

from edgecap.data.karpathy import CaptionedPhoto
from edgecap.export.proof.confidence_fit import area_under_curve, calibrate, fit_logistic
from edgecap.metrics.rightness import MEANING
from edgecap.runtime.bundle.confidence import Calibration
from edgecap.runtime.search.decoding import Hypothesis


def drawn(slope: float, intercept: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    signals = generator.normal(-1, 0.5, count)
    return signals, generator.random(count) < 1 / (1 + np.exp(-(slope * signals + intercept)))


@pytest.mark.parametrize(("slope", "intercept"), [(5.0, 4.0), (-2.0, 1.0), (0.0, 0.5)])
def test_the_function_that_was_drawn_from_is_found(slope: float, intercept: float) -> None:
    found = fit_logistic(*drawn(slope, intercept, 200_000))
    assert found == pytest.approx((slope, intercept), abs=0.1)


def test_probabilities_are_those_of_the_targets_on_average() -> None:
    """What a maximum of the likelihood has, and with it any mistake in the gradient would show."""
    signals, right = drawn(4.0, 3.0, 300)
    calibration = Calibration(*fit_logistic(signals, right))
    found = np.array([calibration.probability(signal) for signal in signals])
    targets = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))
    assert found.mean() == pytest.approx(targets.mean(), abs=1e-6)
    assert (found * signals).mean() == pytest.approx((targets * signals).mean(), abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-30, 0), st.booleans()), min_size=1, max_size=30))
def test_no_data_make_it_diverge(data: list[tuple[float, bool]]) -> None:
    signals, right = np.array([signal for signal, _ in data]), np.array([was for _, was in data])
    slope, intercept = fit_logistic(signals, right)
    assert np.isfinite([slope, intercept]).all()
    assert all(0 <= Calibration(slope, intercept).probability(signal) <= 1 for signal in signals)


def test_when_all_are_right_the_probability_stays_below_one() -> None:
    slope, intercept = fit_logistic(np.linspace(-2, -1, 8), np.ones(8, bool))
    assert slope == pytest.approx(0, abs=1e-6)
    assert Calibration(slope, intercept).probability(-1.5) == pytest.approx(9 / 10, abs=1e-6)  # Platt's target


def test_the_area_counts_pairs_in_order() -> None:
    signals, right = np.array([-1.0, -2.0, -2.0, -3.0]), np.array([True, True, False, False])
    assert area_under_curve(signals, right) == (2 + 1.5) / 4
    assert area_under_curve(-signals, right) == 0.5 / 4
    assert area_under_curve(signals, np.ones(4, bool)) is None is area_under_curve(signals, np.zeros(4, bool))


def hypothesis_of(text: str, log_prob: float, finished: bool = True) -> Hypothesis:
    ids = tuple(VOCABULARY.encode(text.split()))
    return Hypothesis(ids, log_prob, log_prob, np.zeros((len(ids), 4), np.float32), finished, len(ids) + 1)


def test_the_signal_is_the_mean_over_the_tokens_and_the_end() -> None:
    assert hypothesis_of("a red photo", -2.0).mean_log_prob == -0.5
    assert hypothesis_of("a red photo", -3.0, finished=False).mean_log_prob == -1.0
    assert hypothesis_of("", -3.0).mean_log_prob == -3.0


def test_each_set_is_calibrated_on_its_own_captions() -> None:
    photos = [CaptionedPhoto(f"{n}", Path(f"{n}"), (("a", "red", "photo"),)) for n in range(40)]
    # In one set the likelier captions are right, in the other the less likely.
    one = {p.id: hypothesis_of("a red photo" if n % 2 else "dark picture", -4.0 + n % 2) for n, p in enumerate(photos)}
    other = {p.id: hypothesis_of("a red photo" if n % 2 else "dark", -4.0 - n % 2) for n, p in enumerate(photos)}
    found = calibrate({"onnx-fp32": one, "onnx-int8": other}, photos, VOCABULARY, {"photos": 40})
    assert list(found.sets) == ["onnx-fp32", "onnx-int8"] and found.right == MEANING and found.protocol["photos"] == 40
    likelier, unlikelier = found.sets.values()
    assert likelier.slope > 0 and likelier.auc == 1
    assert unlikelier.probability(-5 / 4) > 0.9 > 0.1 > unlikelier.probability(-4 / 2)
    assert likelier.probability(-3 / 4) > 0.9 > 0.1 > likelier.probability(-4 / 3)
