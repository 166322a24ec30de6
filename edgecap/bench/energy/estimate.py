"""Where nothing can be measured: the processor's time, times what a busy core of such a board draws."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from pathlib import Path

from edgecap.bench.energy.meter import EnergySource, Measured
from edgecap.runtime.machine.probes import board_model

ACCURACY = 0.5  # of what a core draws, with clock, load and cooling unknown


@dataclass(frozen=True)
class Profile:
    """What a board draws: idle, and more for each core at work."""

    name: str
    idle_watts: float
    core_watts: float


# By the board's name in the device tree. From meters at the USB supply, idle and with all four cores busy: 2.2 and
# 5.4 W (chipwired.com, 36 measurements of a Pi 4), about 2.7 and 7 W (Pi 5, as several reviewers found it).
BOARDS = {
    "Raspberry Pi 4": Profile("Raspberry Pi 4", 2.2, 0.8),
    "Raspberry Pi 5": Profile("Raspberry Pi 5", 2.7, 1.1),
}
# Else by the architecture, in the middle of what such cores draw at full clock.
ARM, X86 = Profile("an unknown ARM board", 2.5, 1.0), Profile("an unknown x86 machine", 20.0, 6.0)


def board_profile(root: Path = Path("/"), machine: str = platform.machine()) -> Profile:
    """The profile of this board, or of its kind."""
    model = board_model(root)
    for name, profile in BOARDS.items():
        if model.startswith(name):
            return profile
    return ARM if machine in ("aarch64", "arm64", "armv7l") else X86


def estimate(profile: Profile) -> EnergySource:
    """The source that is always there."""
    scope = (
        f"this process, at {profile.core_watts:g} W a busy core and {profile.idle_watts:g} W idle, as {profile.name} "
        "is supposed to draw"
    )
    return EnergySource("estimate", scope, ACCURACY, lambda: _CpuTime(profile))


class _CpuTime:
    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    def start(self) -> None:
        self._began, self._busy = time.perf_counter(), time.process_time()

    def stop(self) -> Measured:
        seconds, busy = time.perf_counter() - self._began, time.process_time() - self._busy
        return Measured(seconds, self._profile.idle_watts * seconds + self._profile.core_watts * busy)
