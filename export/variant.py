"""How the graphs of a set are made smaller, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgecap.runtime.bundle.entries import set_name


@dataclass(frozen=True)
class Compression:
    """How one graph is stored and computed. All but ``precision`` is of INT8."""

    precision: str = "fp32"  # fp32, fp16 (storage only) or int8
    # Of activations with static ranges, under ONNX Runtime: minmax, entropy or percentile (these two keep every
    # activation of every photo in memory). LiteRT's converter knows minmax only.
    calibration_method: str = "minmax"
    error_feedback: bool = True  # each weight's rounding error is fed into the weights after it
    bias_correction: bool = True  # and what remains of it on average into the bias
    # No two neighbouring weights of an ONNX graph can saturate on x86 without VNNI: see runtime/engines/saturation.py.
    pair_limit: bool = True


@dataclass(frozen=True)
class Variant:
    """A graph set to be made: its engine, what it is asked for by, and how each of its graphs is compressed."""

    engine: str
    precision: str  # int8, fp16, fp32, or a word for a mixture
    graphs: Mapping[str, Compression]  # by role

    @property
    def name(self) -> str:
        """Of the set: ``onnx-int8``."""
        return set_name(self.engine, self.precision)
