"""Each exported graph against the torch model on real photos; a graph beyond its tolerance fails the export."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecap.errors import ExportError
from edgecap.export.recipe import Tolerances
from edgecap.export.variant import Variant
from edgecap.runtime.bundle.tasks import ATTENTION, LOG_PROBS, MEMORY, NEXT, STATE
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.engines.engine import Arrays, Encoded, Engine, FloatArray, Step

HYPOTHESES = 3


@dataclass(frozen=True)
class Parity:
    """How far one output of one graph is from torch's."""

    graph: str  # its role
    graph_set: str  # that it belongs to, such as onnx-int8
    precision: str  # of the graph
    tensor: str
    max_difference: float  # absolute
    snr_db: float | None  # 10 log10 of signal power over error power; None where the error is 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_parity(
    reference: Engine, exported: Engine, variant: Variant, images: FloatArray, tolerances: Tolerances
) -> list[Parity]:
    """Compare the graphs of a set on photos (N, 3, S, S).

    The step runs twice, on the reference's own encoding and states, so that its errors are its own. Raises
    ``ExportError`` naming the graph and the tensor.
    """
    expected = reference.encode(images)
    rows = _rows("encoder", variant, _encoded(expected), _encoded(exported.encode(images)))
    token = np.full((len(images), 1), Vocabulary.start_id, np.int64)  # (N, 1)
    state: Arrays = {name: value[:, None] for name, value in expected.state.items()}  # (N, 1, ...) each
    first = reference.step(token, state, expected.memory)
    rows += _rows("decoder_step", variant, _stepped(first), _stepped(exported.step(token, state, expected.memory)))
    best = np.argsort(-first.log_probs[:, 0], axis=-1)[:, :HYPOTHESES]  # (N, K)
    state = {name: np.repeat(value, HYPOTHESES, axis=1) for name, value in first.state.items()}  # (N, K, ...) each
    second = reference.step(best, state, expected.memory)
    rows += _rows("decoder_step", variant, _stepped(second), _stepped(exported.step(best, state, expected.memory)))
    for row in rows:
        _check(row, tolerances)
    return _worst(rows)


def _encoded(encoded: Encoded) -> Arrays:
    return {
        **{MEMORY + name: value for name, value in encoded.memory.items()},
        **{STATE + name: value for name, value in encoded.state.items()},
    }


def _stepped(step: Step) -> Arrays:
    attention = {} if step.attention is None else {ATTENTION: step.attention}
    return {LOG_PROBS: step.log_probs, **{NEXT + name: value for name, value in step.state.items()}, **attention}


def _rows(role: str, variant: Variant, expected: Arrays, found: Arrays) -> list[Parity]:
    precision = variant.graphs[role].precision
    return [_parity(role, variant.name, precision, name, expected[name], found[name]) for name in expected]


def _parity(
    graph: str, graph_set: str, precision: str, name: str, expected: NDArray[Any], found: NDArray[Any]
) -> Parity:
    error = found.astype(np.float64) - expected
    noise = float(np.mean(error**2))
    signal = float(np.mean(expected.astype(np.float64) ** 2))
    return Parity(graph, graph_set, precision, name, float(np.abs(error).max()), decibels(signal, noise))


def decibels(signal: float, noise: float) -> float | None:
    """10 log10 of the ratio; None without noise; NaN, which no limit allows, when either is."""
    if noise == 0:
        return None
    ratio = signal / noise
    return -math.inf if ratio == 0 else 10 * math.log10(ratio)


def _check(row: Parity, tolerances: Tolerances) -> None:
    graph = f"{row.graph} of {row.graph_set}"
    if row.precision == "fp32":
        limit = tolerances.fp32_max_difference
        if not row.max_difference <= limit:  # also when it is NaN
            problem = f"{row.tensor} is off by {row.max_difference:.2g}, {limit:.2g} is allowed"
            raise ExportError("parity", graph, problem)
        return
    int8_min = tolerances.encoder_int8_min_snr if row.graph == "encoder" else tolerances.step_int8_min_snr
    least = int8_min if row.precision == "int8" else tolerances.fp16_min_snr
    if not (row.snr_db is None or row.snr_db >= least):
        raise ExportError("parity", graph, f"{row.tensor} at {row.snr_db:.1f} dB, {least} are needed")


def _worst(rows: Iterable[Parity]) -> list[Parity]:
    """Of several comparisons of one tensor, the worst."""
    worst: dict[tuple[str, str], Parity] = {}
    for row in rows:
        key = (row.graph, row.tensor)
        if key not in worst or row.max_difference > worst[key].max_difference:
            worst[key] = row
    return list(worst.values())
