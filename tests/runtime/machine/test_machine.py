"""What is told of a machine: from recorded files of boards and servers, and from this one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgecap.runtime.machine.facts import condition, machine, throttled_flags

PI5 = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b

Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""
SERVER = """\
processor\t: 0
model name\t: Some(R) Server CPU @ 2.60GHz
flags\t\t: fpu sse2 fma avx2 avx512f avx512_vnni
processor\t: 1
model name\t: Some(R) Server CPU @ 2.60GHz
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_board_is_named_by_its_device_tree(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": PI5,
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/meminfo": "MemTotal:        8245696 kB\nMemFree:          1 kB\n",
    }
    found = machine(write(tmp_path, files))
    assert found.board == found.cpu == "Raspberry Pi 5 Model B Rev 1.0"
    assert found.features == ("asimd", "asimddp", "asimdhp") and found.memory_bytes == 8245696 * 1024


def test_a_server_is_named_by_its_processor(tmp_path: Path) -> None:
    found = machine(write(tmp_path, {"proc/cpuinfo": SERVER}))
    assert (found.board, found.cpu) == ("", "Some(R) Server CPU @ 2.60GHz")
    assert found.features == ("avx2", "fma", "avx512f", "avx512_vnni") and found.memory_bytes == 0


def test_of_a_machine_that_says_nothing_nothing_is_made_up(tmp_path: Path) -> None:
    found, now = machine(tmp_path), condition(tmp_path, run=lambda _: "")
    assert found.features == () and found.cores >= 1 and found.cpu
    assert (now.governor, now.megahertz, now.temperature, now.throttled) == (None, None, None, None)


def test_this_machine() -> None:
    found = machine()
    assert found.cores == len(os.sched_getaffinity(0)) and found.memory_bytes > 2**28 and found.cpu != "unknown"
    condition()


def test_how_a_board_is_doing(tmp_path: Path) -> None:
    files = {
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
        "sys/class/thermal/thermal_zone0/temp": "61750\n",
        "sys/class/thermal/thermal_zone1/temp": "48000\n",
    }
    now = condition(write(tmp_path, files), run=lambda _: "throttled=0x0\n")
    assert (now.governor, now.megahertz, now.temperature, now.throttled) == ("ondemand", 1500, 61.75, ())


@pytest.mark.parametrize(
    ("answer", "flags"),
    [
        ("throttled=0x0\n", ()),
        ("throttled=0x1", ("under-voltage",)),
        ("throttled=0x50005", ("under-voltage", "throttled", "under-voltage since start", "throttled since start")),
        ("throttled=0x80008", ("soft temperature limit", "soft temperature limit since start")),
        ("VCHI initialization failed", None),
        ("", None),
    ],
)
def test_the_firmwares_flags(answer: str, flags: tuple[str, ...] | None) -> None:
    assert throttled_flags(lambda _: answer) == flags


def test_without_vcgencmd_there_are_no_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert condition(tmp_path).throttled is None
