"""Energy sources on recorded readings, and what each says when it fails."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgecap.bench.energy.caption_energy import arithmetic_only_floor, caption_energy, energy_sources
from edgecap.bench.energy.estimate import BOARDS, board_profile, estimate
from edgecap.bench.energy.hwmon import power_monitors
from edgecap.bench.energy.meter import CounterMeter, EnergySource, PowerMeter
from edgecap.bench.energy.pmic import pmic, rail_watts
from edgecap.bench.energy.rapl import rapl
from edgecap.errors import EnergyError

# A Pi 5's answer (firmware of 2023 on), and the bare form of the same.
NUMBERED = """\
   3V7_WL_SW_A current(0)=0.06245952A
   3V3_SYS_A current(1)=0.05855580A
   1V8_SYS_A current(2)=0.16981180A
  DDR_VDD2_A current(3)=0.02049453A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.18542670A
    0V8_SW_A current(6)=0.31034570A
  VDD_CORE_A current(7)=0.80112000A
   3V3_DAC_A current(17)=0.00000000A
   3V7_WL_SW_V volt(8)=3.71190000V
   3V3_SYS_V volt(9)=3.31456900V
   1V8_SYS_V volt(10)=1.79768500V
  DDR_VDD2_V volt(11)=1.10695800V
  DDR_VDDQ_V volt(12)=0.60513440V
   1V1_SYS_V volt(13)=1.10769000V
    0V8_SW_V volt(14)=0.80268920V
  VDD_CORE_V volt(15)=0.72036740V
   3V3_DAC_V volt(20)=3.31172500V
     EXT5V_V volt(24)=5.14702000V
      BATT_V volt(25)=0.00000000V
"""
BARE = "VDD_CORE_A=0.8011A\nVDD_CORE_V=0.7204V\n3V3_SYS_A=0.0586A\n3V3_SYS_V=3.3146V\nEXT5V_V=5.1470V\n"


def test_the_pmics_rails_are_summed_in_both_formats() -> None:
    watts = rail_watts(NUMBERED)
    assert watts["VDD_CORE"] == pytest.approx(0.80112 * 0.7203674) and watts["3V3_SYS"] == pytest.approx(
        0.1941, abs=1e-4
    )
    assert len(watts) == 9 and not {"EXT5V", "BATT"} & set(watts)  # volts alone are no power
    assert rail_watts(BARE) == pytest.approx({"VDD_CORE": 0.5771, "3V3_SYS": 0.1942}, abs=1e-4)


@pytest.mark.parametrize("output", ["", 'error=1 error_msg="Command not registered"', "EXT5V_V volt(24)=5.1V"])
def test_a_board_without_a_pmic_has_no_such_source(output: str) -> None:
    with pytest.raises(ValueError, match="shows no rail with volts and amperes"):
        rail_watts(output)
    assert pmic(lambda _: output) is None


def test_a_machine_without_vcgencmd_has_no_such_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert pmic() is None


def test_the_pmic_is_asked_again_and_again() -> None:
    source = pmic(lambda _: BARE)
    assert source is not None and source.method == "pmic"
    measured = wait(source, 0.25)
    assert measured.watts == pytest.approx(0.7713, abs=1e-3) and measured.seconds > 0.2


def wait(source: EnergySource, seconds: float):  # type: ignore[no-untyped-def]
    meter = source.meter()
    meter.start()
    time.sleep(seconds)
    return meter.stop()


def write_monitor(root: Path, number: int, name: str, microwatts: str) -> Path:
    folder = root / f"sys/class/hwmon/hwmon{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(name + "\n")
    (folder / "power1_input").write_text(microwatts)
    return folder / "power1_input"


def test_monitors_are_found_by_their_chip_and_integrated(tmp_path: Path) -> None:
    write_monitor(tmp_path, 0, "cpu_thermal", "1")
    file = write_monitor(tmp_path, 1, "ina219", "2500000\n")
    write_monitor(tmp_path, 2, "ina226", "1\n")
    first, second = power_monitors(tmp_path)
    assert (first.method, second.method) == ("ina219", "ina226") and "hwmon1" in first.scope
    meter = first.meter()
    meter.start()
    time.sleep(0.2)
    replace(file, "7500000\n")
    time.sleep(0.2)
    measured = meter.stop()
    assert 2.5 < measured.watts < 7.5
    assert measured.joules == pytest.approx(measured.watts * measured.seconds) and measured.error > 0


def test_a_monitor_that_vanishes_gives_a_message_and_no_number(tmp_path: Path) -> None:
    file = write_monitor(tmp_path, 0, "ina219", "2500000\n")
    (source,) = power_monitors(tmp_path)
    meter = source.meter()
    meter.start()
    time.sleep(0.12)
    file.unlink()
    time.sleep(0.12)
    with pytest.raises(EnergyError, match=r"ina219: cannot be read after \d+ readings: .*power1_input"):
        meter.stop()
    with pytest.raises(EnergyError, match=r"ina219: cannot be read: .*power1_input"):
        source.meter().start()


def test_nonsense_of_a_monitor_is_no_number(tmp_path: Path) -> None:
    write_monitor(tmp_path, 0, "ina226", "")
    (source,) = power_monitors(tmp_path)
    with pytest.raises(EnergyError, match="ina226: cannot be read: invalid literal"):
        source.meter().start()


def write_package(root: Path, number: int, microjoules: int, wraps_at: int = 262143328850) -> Path:
    folder = root / f"sys/class/powercap/intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"package-{number}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    return folder / "energy_uj"


def test_packages_are_summed_and_their_parts_are_not(tmp_path: Path) -> None:
    files = [write_package(tmp_path, number, 1_000_000) for number in range(2)]
    part = tmp_path / "sys/class/powercap/intel-rapl:0:0"
    part.mkdir()
    (part / "name").write_text("core\n")
    source = rapl(tmp_path)
    assert source is not None and "packages" in source.scope
    meter = source.meter()
    meter.start()
    for number, file in enumerate(files):
        file.write_text(f"{3_000_000 + number * 500_000}\n")
    assert meter.stop().joules == pytest.approx(2 + 2.5)


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    file = write_package(tmp_path, 0, 9_900_000, wraps_at=10_000_000)
    source = rapl(tmp_path)
    assert source is not None and source.scope.startswith("the processor package,")
    meter = source.meter()
    meter.start()
    replace(file, "400000\n")
    assert meter.stop().joules == pytest.approx(0.5)


def test_a_counter_may_wrap_again_and_again() -> None:
    shown = iter([9.0, 9.9, 0.4, 8.0, 0.3])  # 0.9, wraps: 0.5, 7.6, wraps: 2.3
    over = threading.Event()

    def read() -> float:
        value = next(shown, None)
        if value is None:
            over.set()
        return 0.3 if value is None else value

    meter = CounterMeter("x", read, 0.001, wraps_at=10, step=0.1)
    meter.start()
    assert over.wait(60)
    assert meter.stop().joules == pytest.approx(0.9 + 0.5 + 7.6 + 2.3)


def replace(file: Path, text: str) -> None:
    """At once, as a counter changes: a reader never sees an empty file."""
    fresh = file.with_name("fresh")
    fresh.write_text(text)
    fresh.replace(file)


def test_a_counter_for_root_only_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_package(tmp_path, 0, 1)
    read = Path.read_text

    def refuse(path: Path, *arguments: object, **options: object) -> str:
        if path == file:  # file modes do not stop root, who runs these tests in CI
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_text", refuse)
    source = rapl(tmp_path)
    assert source is not None
    with pytest.raises(EnergyError, match=r"rapl: .*energy_uj is for root only: run  sudo chmod a\+r .*energy_uj"):
        source.meter().start()


def test_without_powercap_there_is_no_such_source(tmp_path: Path) -> None:
    assert rapl(tmp_path) is None and power_monitors(tmp_path) == []


def test_boards_are_known_by_the_device_tree(tmp_path: Path) -> None:
    assert board_profile(tmp_path, "aarch64").name == "an unknown ARM board"
    assert board_profile(tmp_path, "x86_64").name == "an unknown x86 machine"
    model = tmp_path / "proc/device-tree/model"
    model.parent.mkdir(parents=True)
    model.write_text("Raspberry Pi 5 Model B Rev 1.0\0")
    assert board_profile(tmp_path, "aarch64") is BOARDS["Raspberry Pi 5"]


def test_the_estimate_counts_the_processors_time_and_says_on_what_it_rests() -> None:
    source = estimate(BOARDS["Raspberry Pi 4"])
    assert "0.8 W a busy core and 2.2 W idle, as Raspberry Pi 4" in source.scope and source.accuracy == 0.5
    meter = source.meter()
    meter.start()
    busy(0.2)
    worked = meter.stop()
    assert worked.joules == pytest.approx(2.2 * worked.seconds + 0.8 * 0.2, rel=0.3)
    idle = wait(source, 0.1)
    assert idle.watts == pytest.approx(2.2, rel=0.1)


def busy(seconds: float) -> None:
    began = time.process_time()
    while time.process_time() - began < seconds:
        pass


def test_the_best_source_comes_first_and_the_estimate_is_always_there(tmp_path: Path) -> None:
    assert [source.method for source in energy_sources(tmp_path)] == ["estimate"]
    write_package(tmp_path, 0, 1)
    write_monitor(tmp_path, 0, "ina226", "1")
    assert [source.method for source in energy_sources(tmp_path)] == ["ina226", "rapl", "estimate"]


def steps(*watts: float) -> Callable[[], float]:
    """A sensor that shows each value once, and then the last one for ever."""
    shown: Iterator[float] = itertools.chain(watts, itertools.repeat(watts[-1]))
    return lambda: next(shown)


def test_a_captions_energy_is_what_the_idle_machine_does_not_draw() -> None:
    idle, work = steps(2.0), steps(5.0)
    meters = iter([PowerMeter("x", idle, 0.01), PowerMeter("x", work, 0.01)])
    source = EnergySource("x", "the board", 0.1, lambda: next(meters))

    def caption() -> int:
        time.sleep(0.2)
        return 4

    energy = caption_energy(source, caption, idle_seconds=0.1)
    assert energy.idle_watts == pytest.approx(2) and energy.gross_joules == pytest.approx(5 * energy.seconds)
    assert energy.net_joules == pytest.approx(3 * energy.seconds) and energy.value == pytest.approx(
        energy.net_joules / 4
    )
    assert energy.uncertainty == pytest.approx(
        0.1 * energy.value
    )  # readings do not vary, so the sensor's accuracy is left
    assert set(energy.to_json()) >= {"value", "method", "scope", "idle_W", "gross_J", "net_J", "uncertainty"}


def test_readings_that_vary_are_less_certain() -> None:
    def measured(*watts: float) -> float:
        meters = iter([PowerMeter("x", steps(1.0), 0.01), PowerMeter("x", steps(*watts), 0.01)])
        source = EnergySource("x", "the board", 0.0, lambda: next(meters))
        return caption_energy(source, lambda: time.sleep(0.2) or 1, idle_seconds=0.05).uncertainty

    assert measured(5.0, 5.0) == pytest.approx(0, abs=1e-9) and measured(9, 2, 8, 3, 9, 2, 5) > 0.01


def test_no_gain_over_the_idle_machine_is_no_number() -> None:
    meters = iter([PowerMeter("x", steps(5.0), 0.01), PowerMeter("x", steps(4.0), 0.01)])
    source = EnergySource("x", "the board", 0.1, lambda: next(meters))
    with pytest.raises(
        EnergyError, match=r"x: the machine drew no more while captioning \(4\.00 W\) than before \(5\.00 W\)"
    ):
        caption_energy(source, lambda: time.sleep(0.05) or 1, idle_seconds=0.05)


def test_a_counter_in_steps_is_uncertain_by_a_step() -> None:
    meter = CounterMeter("x", steps(1.0, 3.0), 10, wraps_at=100, step=0.5)
    meter.start()
    assert (measured := meter.stop()).joules == 2 and measured.error == 0.5


def test_the_floor_is_the_papers() -> None:
    # 97 M multiply-accumulates at 0.125 pJ an operation are the 0.024 mJ that it states.
    assert arithmetic_only_floor(97_000_000) == pytest.approx(0.024e-3, rel=0.02)
