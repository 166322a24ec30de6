"""RAPL: the energy counters of x86 processors, as Linux shows them in powercap."""

from __future__ import annotations

from pathlib import Path

from edgecap.bench.energy.meter import CounterMeter, EnergySource, Measured, Meter
from edgecap.errors import EnergyError
from edgecap.runtime.machine.probes import file_text

ACCURACY = 0.05  # models of the package against meters: some percent since Haswell (Khan et al. 2018, TOMPECS 3(2))
_PERIOD = 1.0  # s; the smallest counters wrap after about 40 s at full power
_STEP = 0.1  # J: updates are a millisecond apart, at up to 100 W


def packages(root: Path = Path("/")) -> list[Path]:
    """The counters' folders, one a processor package."""
    folders = sorted(root.glob("sys/class/powercap/intel-rapl:*"))
    return [folder for folder in folders if file_text(folder / "name").startswith("package")]


def rapl(root: Path = Path("/")) -> EnergySource | None:
    """All packages together, where there are any; whether they may be read is seen when they are."""
    found = packages(root)
    if not found:
        return None
    scope = f"the processor package{'s' * (len(found) > 1)}, without memory, disk and supply"
    return EnergySource("rapl", scope, ACCURACY, lambda: _Packages(found))


class _Packages:
    """One meter a package, together."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self._meters: list[Meter] = []

    def start(self) -> None:
        self._meters = [_meter(folder) for folder in self._folders]
        for meter in self._meters:
            meter.start()

    def stop(self) -> Measured:
        measured = [meter.stop() for meter in self._meters]
        return Measured(
            max(one.seconds for one in measured),
            sum(one.joules for one in measured),
            sum(one.error for one in measured),
        )


def _meter(folder: Path) -> CounterMeter:
    file = folder / "energy_uj"

    def joules() -> float:
        return int(file.read_text()) / 1e6

    try:
        wraps_at = int((folder / "max_energy_range_uj").read_text()) / 1e6
        joules()
    except PermissionError as error:
        raise EnergyError(
            f"rapl: {file} is for root only: run  sudo chmod a+r {file}  (until the next start), or measure as root"
        ) from error
    except (OSError, ValueError) as error:
        raise EnergyError(f"rapl: {file} cannot be read: {error}") from error
    return CounterMeter("rapl", joules, _PERIOD, wraps_at, _STEP)
