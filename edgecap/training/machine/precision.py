"""The precision that ``precision = "auto"`` stands for on this machine, and why."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch

from edgecap.runtime.machine.facts import BF16_FEATURES, bf16_instructions, cpu_flags

_ASKED = "as the configuration says"
_NONE = f"this CPU has no bf16 instructions ({', '.join(BF16_FEATURES.values())})"


class Precision(NamedTuple):
    """``bf16`` or ``fp32``, of the matrix products while training."""

    name: str
    reason: str

    @property
    def line(self) -> str:
        """What a run says."""
        return f"precision: {self.name}, {self.reason}"


def resolved_precision(asked: str, device: torch.device) -> Precision:
    """What ``asked`` (auto, bf16 or fp32) comes to on a device of this machine."""
    if device.type == "cpu":
        return cpu_precision(asked, cpu_flags())
    if asked != "auto":
        return Precision(asked, _ASKED)
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision("bf16", "which the graphics card computes with")
    return Precision("fp32", "as the graphics card has no bf16")


def use_card(device: torch.device, precision: str) -> None:
    """Have a graphics card take what it is quickest with; on a CPU nothing changes."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "bf16" else "highest")  # TensorFloat-32, or float32


def cpu_precision(asked: str, flags: Collection[str]) -> Precision:
    """The same on a CPU with these ``flags``, as Linux names its instructions."""
    found = bf16_instructions(flags)
    if asked == "bf16" and not found:
        return Precision(asked, f"{_ASKED}; {_NONE}, and fp32 would be faster")
    if asked != "auto":
        return Precision(asked, _ASKED)
    if found:
        return Precision("bf16", f"for which this CPU has {' and '.join(found)}")
    return Precision("fp32", f"as {_NONE}")
