"""What an export does, as data: saved in the bundle as ``recipe.json``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Tolerances:
    """Limits of the parity check; a graph beyond them fails the export."""

    fp32_max_difference: float = 1e-3  # largest absolute difference of any output from torch
    encoder_int8_min_snr: float = 8.0  # dB, signal to quantization noise, of each output against torch
    step_int8_min_snr: float = 20.0


@dataclass(frozen=True)
class ExportRecipe:
    """Graphs, quantization and limits of one export."""

    precisions: tuple[str, ...] = ("fp32",)  # of the graphs that the bundle carries
    opset: int = 18
    # Static, per-channel weights, unsigned activations: on x86 these cost ONNX Runtime half of what signed ones do.
    calibration_method: str = "minmax"  # or entropy, percentile: these keep every activation of every photo in memory
    calibration_photos: int = 200
    calibration_seed: int = 0
    # The step's matrix products are quantized dynamically, its embedding table is stored as int8.
    parity_photos: int = 8
    tolerances: Tolerances = field(default_factory=Tolerances)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
