"""Joules a caption: what captioning draws beyond what the idle machine does, and how well that is known."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecap.bench.energy.estimate import board_profile, estimate
from edgecap.bench.energy.hwmon import power_monitors
from edgecap.bench.energy.meter import EnergySource
from edgecap.bench.energy.pmic import pmic
from edgecap.bench.energy.rapl import rapl
from edgecap.errors import EnergyError

FLOOR_PJ_PER_FLOP = 0.125  # the source paper's figure for arithmetic alone


@dataclass(frozen=True)
class CaptionEnergy:
    """``value`` joules a caption, plus or minus ``uncertainty`` (one standard deviation), of what ``scope`` says.

    ``gross_joules`` is all that was spent during ``captions`` captions in ``seconds``; ``net_joules`` is that less the
    idle machine's share, ``idle_watts`` for as long.
    """

    value: float
    method: str
    scope: str
    idle_watts: float
    gross_joules: float
    net_joules: float
    uncertainty: float
    captions: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """With the names of a report: ``idle_W``, ``gross_J``, ``net_J``."""
        units = {"idle_watts": "idle_W", "gross_joules": "gross_J", "net_joules": "net_J"}
        return {units.get(name, name): value for name, value in asdict(self).items()}


def energy_sources(root: Path = Path("/")) -> list[EnergySource]:
    """What this machine has, the best first; the estimate is always there."""
    measured = [*power_monitors(root), pmic(), rapl(root)]
    return [*(source for source in measured if source is not None), estimate(board_profile(root))]


def caption_energy(source: EnergySource, caption: Callable[[], int], idle_seconds: float) -> CaptionEnergy:
    """Energy of ``caption()``, which says how many captions it made; the machine must have nothing else to do.

    Raises :class:`~edgecap.errors.EnergyError` when the source fails.
    """
    meter = source.meter()
    meter.start()
    time.sleep(idle_seconds)
    idle = meter.stop()
    meter = source.meter()
    meter.start()
    count = caption()
    busy = meter.stop()
    net = busy.joules - idle.watts * busy.seconds
    if net <= 0:
        raise EnergyError(
            f"{source.method}: the machine drew no more while captioning ({busy.watts:.2f} W) than before "
            f"({idle.watts:.2f} W): something else is running, or the captions were too few"
        )
    idle_error = idle.error * busy.seconds / idle.seconds
    error = math.hypot(source.accuracy * net, busy.error, idle_error)
    return CaptionEnergy(
        value=net / count,
        method=source.method,
        scope=source.scope,
        idle_watts=idle.watts,
        gross_joules=busy.joules,
        net_joules=net,
        uncertainty=error / count,
        captions=count,
        seconds=busy.seconds,
    )


def arithmetic_only_floor(macs: int) -> float:
    """Joules of a caption's multiplications and additions alone, at the source paper's 0.125 pJ each.

    Four to five orders below what any board draws.
    """
    return 2 * macs * FLOOR_PJ_PER_FLOP * 1e-12
