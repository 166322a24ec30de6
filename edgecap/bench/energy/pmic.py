"""The Raspberry Pi 5's power-management chip: volts and amperes of the board's rails, by ``vcgencmd pmic_read_adc``."""

from __future__ import annotations

import re

from edgecap.bench.energy.meter import EnergySource, PowerMeter
from edgecap.runtime.machine.probes import Run, vcgencmd

_PERIOD = 0.1  # s; each reading starts a process, and more of them slow down what is measured
ACCURACY = 0.05  # no maker states it; rails sum up to within some percent of a bench supply, less the 5 V devices
# "  VDD_CORE_A current(7)=1.23456000A" and "  VDD_CORE_V volt(15)=0.87654000V"; or bare, "VDD_CORE_A=1.2346A".
_LINE = re.compile(r"^\s*(?P<rail>\w+)_(?P<kind>[AV])(?:\s+\w+\(\d+\))?=(?P<value>\d+(?:\.\d+)?)(?P<unit>[AV])\s*$")


def rail_watts(output: str) -> dict[str, float]:
    """Watts by rail. Those without a current (EXT5V, BATT) have none. Raises ``ValueError``."""
    seen: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    for line in output.splitlines():
        match = _LINE.match(line)
        if match and match["kind"] == match["unit"]:
            seen[match["unit"]][match["rail"]] = float(match["value"])
    amperes, volts = seen["A"], seen["V"]
    watts = {rail: amperes[rail] * volts[rail] for rail in amperes if rail in volts}
    if not watts:
        raise ValueError(f"vcgencmd pmic_read_adc shows no rail with volts and amperes: {output.strip()[:80]!r}")
    return watts


def pmic(run: Run = vcgencmd) -> EnergySource | None:
    """The chip, where there is one that answers."""
    try:
        rail_watts(run("pmic_read_adc"))
    except (OSError, ValueError):
        return None

    def watts() -> float:
        return sum(rail_watts(run("pmic_read_adc")).values())

    scope = "the board's rails, without devices on 5 V and the converters' own loss"
    return EnergySource("pmic", scope, ACCURACY, lambda: PowerMeter("pmic", watts, _PERIOD))
