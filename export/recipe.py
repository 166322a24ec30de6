"""What an export does, as data: saved in the bundle as ``recipe.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from edgecap.export.variant import Compression, Variant
from edgecap.runtime.bundle.entries import ENGINES, PRECISIONS


@dataclass(frozen=True)
class Tolerances:
    """Limits of the parity check; a graph beyond them fails the export."""

    fp32_max_difference: float = 1e-3  # largest absolute difference of any output from torch
    fp16_min_snr: float = 40.0  # dB, signal to rounding noise, of each output against torch
    encoder_int8_min_snr: float = 8.0
    step_int8_min_snr: float = 20.0


@dataclass(frozen=True)
class CaptionGate:
    """Limits of what the graphs may do to the captions of val; a precision beyond them is not chosen by ``auto``.

    fp16 and INT8 are held against the fp32 graphs of the same engine, and these against torch.
    """

    max_cider_drop: float = 1.0  # points of CIDEr-D x 100
    min_identical: float = 0.99  # share of photos whose caption has the same tokens
    int8_min_identical: float = 0.70


@dataclass(frozen=True)
class GoldenTolerances:
    """What another machine may differ by on the golden photo, as a share of a tensor's largest recorded value."""

    fp32: float = 1e-3
    fp16: float = 1e-2
    int8: float = 0.25  # tflite-runtime's kernels were seen 0.13 away from ai-edge-litert's


@dataclass(frozen=True)
class ExportRecipe:
    """Graphs, quantization and limits of one export."""

    engines: tuple[str, ...] = ENGINES
    precisions: tuple[str, ...] = PRECISIONS  # of the graph sets that the bundle carries
    opset: int = 18
    calibration_photos: int = 200
    calibration_seed: int = 0
    int8: Compression = field(default_factory=lambda: Compression("int8"))
    rounding_photos: int = 32  # that the layers of graphs of photos are measured on; a step's see all of them
    parity_photos: int = 8
    confidence_photos: int = 100  # of val, at least: fewer calibrate nothing
    tolerances: Tolerances = field(default_factory=Tolerances)
    gate: CaptionGate = field(default_factory=CaptionGate)
    golden: GoldenTolerances = field(default_factory=GoldenTolerances)

    def variants(self, roles: Iterable[str], precisions: Iterable[str] = ()) -> list[Variant]:
        """The graph sets of the bundle, or of other ``precisions``: of each engine in the order of ``auto``."""
        chosen = sorted({*(precisions or self.precisions)}, key=PRECISIONS.index)
        every = list(roles)
        return [
            Variant(engine, name, dict.fromkeys(every, self.int8 if name == "int8" else Compression(name)))
            for engine in self.engines
            for name in chosen
        ]

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
