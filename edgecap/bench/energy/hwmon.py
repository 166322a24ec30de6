"""INA219 and INA226 power monitors, as Linux shows them in hwmon: a few dollars between the board and its supply."""

from __future__ import annotations

from pathlib import Path

from edgecap.bench.energy.meter import EnergySource, PowerMeter
from edgecap.runtime.machine.probes import file_text

CHIPS = {"ina219": 0.01, "ina226": 0.005}  # with their worst error of current over temperature (datasheets)
_PERIOD = 0.05  # s; the chips average over some milliseconds themselves


def power_monitors(root: Path = Path("/")) -> list[EnergySource]:
    """The monitors of this machine, by hwmon number."""
    sources = []
    for folder in sorted(root.glob("sys/class/hwmon/hwmon*")):
        chip = file_text(folder / "name")
        if chip in CHIPS and (folder / "power1_input").exists():
            sources.append(_monitor(chip, folder / "power1_input"))
    return sources


def _monitor(chip: str, file: Path) -> EnergySource:
    def watts() -> float:
        return int(file.read_text()) / 1e6  # hwmon gives microwatts

    scope = f"all that is behind the {chip.upper()} at {file.parent.name}"
    return EnergySource(chip, scope, CHIPS[chip], lambda: PowerMeter(chip, watts, _PERIOD))
