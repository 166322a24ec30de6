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
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.engines.engine import Backend, Encoded, FloatArray, Step

HYPOTHESES = 3


@dataclass(frozen=True)
class Parity:
    """How far one output of one graph is from torch's."""

    graph: str  # its role
    graphs: str  # the set it belongs to: runtime and precision, such as onnx-int8
    tensor: str
    max_difference: float  # absolute
    snr_db: float | None  # 10 log10 of signal power over error power; None where the error is 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_parity(
    reference: Backend, exported: Backend, graphs: str, images: FloatArray, tolerances: Tolerances
) -> list[Parity]:
    """Compare both graphs of the set ``graphs`` on photos (N, 3, S, S).

    The step runs twice, on the reference's own encoding and states, so that its errors are its own. Raises
    ``ExportError`` naming the graph and the tensor.
    """
    expected = reference.encode(images)
    rows = _rows("encoder", graphs, vars(expected), vars(exported.encode(images)))
    token = np.full((len(images), 1), Vocabulary.start_id, np.int64)  # (N, 1)
    h, c = expected.h0[:, None], expected.c0[:, None]  # (N, 1, H)
    first, other_first = _both_steps(reference, exported, token, h, c, expected)
    best = np.argsort(-first.log_probs[:, 0], axis=-1)[:, :HYPOTHESES]  # (N, K)
    h, c = (np.repeat(state, HYPOTHESES, axis=1) for state in (first.h, first.c))  # (N, K, H)
    second, other_second = _both_steps(reference, exported, best, h, c, expected)
    for wanted, found in ((first, other_first), (second, other_second)):
        rows += _rows("decoder_step", graphs, vars(wanted), vars(found))
    for row in rows:
        _check(row, tolerances)
    return _worst(rows)


def _both_steps(
    reference: Backend, exported: Backend, token: NDArray[np.int64], h: FloatArray, c: FloatArray, encoded: Encoded
) -> tuple[Step, Step]:
    step, other = (backend.step(token, h, c, encoded.features, encoded.keys) for backend in (reference, exported))
    return step, other


def _rows(graph: str, graphs: str, expected: dict[str, FloatArray], found: dict[str, FloatArray]) -> list[Parity]:
    return [_parity(graph, graphs, name, expected[name], found[name]) for name in expected]


def _parity(graph: str, graphs: str, name: str, expected: FloatArray, found: FloatArray) -> Parity:
    error = found.astype(np.float64) - expected
    noise = float(np.mean(error**2))
    signal = float(np.mean(expected.astype(np.float64) ** 2))
    return Parity(graph, graphs, name, float(np.abs(error).max()), decibels(signal, noise))


def decibels(signal: float, noise: float) -> float | None:
    """10 log10 of the ratio; None without noise; NaN, which no limit allows, when either is."""
    if noise == 0:
        return None
    ratio = signal / noise
    return -math.inf if ratio == 0 else 10 * math.log10(ratio)


def _check(row: Parity, tolerances: Tolerances) -> None:
    precision = row.graphs.rpartition("-")[2]
    graph = f"{row.graph} of {row.graphs}"
    if precision == "fp32":
        limit = tolerances.fp32_max_difference
        if not row.max_difference <= limit:  # also when it is NaN
            problem = f"{row.tensor} is off by {row.max_difference:.2g}, {limit:.2g} is allowed"
            raise ExportError("parity", graph, problem)
        return
    int8_min = tolerances.encoder_int8_min_snr if row.graph == "encoder" else tolerances.step_int8_min_snr
    least = int8_min if precision == "int8" else tolerances.fp16_min_snr
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
