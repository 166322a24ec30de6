"""The machine that is measured: what it is, and whether it is holding back."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from edgecap.runtime.probes import Run, board_model, file_text, usable_cores, vcgencmd

# Instructions that the engines' kernels are chosen by, as Linux names them.
X86_FEATURES = ("avx2", "fma", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8")
ARM_FEATURES = ("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve")  # asimddp: dot product; asimdhp: fp16
# Bits of the Raspberry Pi firmware's get_throttled; the same, 16 higher, have been since the start.
THROTTLED_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_SINCE_START = 16


@dataclass(frozen=True)
class Machine:
    """What does not change while it runs."""

    board: str  # by the device tree; empty where there is none
    cpu: str
    architecture: str
    features: tuple[str, ...]  # of X86_FEATURES or ARM_FEATURES
    cores: int  # that this process may use
    memory_bytes: int
    system: str
    python: str


@dataclass(frozen=True)
class Condition:
    """What may change, and changes what is measured. ``None`` and empty: the machine does not say."""

    governor: str | None
    megahertz: int | None  # of the first core, now
    temperature: float | None  # degrees Celsius, of the warmest zone
    throttled: tuple[str, ...] | None  # flags that are up; None where there are none to read


def machine(root: Path = Path("/")) -> Machine:
    """This machine; another root is for tests."""
    cpuinfo = file_text(root / "proc/cpuinfo")
    known = set(_value(cpuinfo, "flags").split()) | set(_value(cpuinfo, "Features").split())
    board = board_model(root)
    return Machine(
        board=board,
        cpu=_value(cpuinfo, "model name") or board or platform.processor() or "unknown",
        architecture=platform.machine(),
        features=tuple(name for name in (*X86_FEATURES, *ARM_FEATURES) if name in known),
        cores=usable_cores(),
        memory_bytes=_memory(file_text(root / "proc/meminfo")),
        system=platform.platform(),
        python=platform.python_version(),
    )


def condition(root: Path = Path("/"), run: Run = vcgencmd) -> Condition:
    """How the machine is doing now."""
    frequency = root / "sys/devices/system/cpu/cpu0/cpufreq"
    kilohertz = file_text(frequency / "scaling_cur_freq")
    zones = [file_text(zone / "temp") for zone in root.glob("sys/class/thermal/thermal_zone*")]
    degrees = [int(text) / 1000 for text in zones if text.lstrip("-").isdigit()]
    return Condition(
        governor=file_text(frequency / "scaling_governor") or None,
        megahertz=int(kilohertz) // 1000 if kilohertz.isdigit() else None,
        temperature=max(degrees, default=None),
        throttled=throttled_flags(run),
    )


def throttled_flags(run: Run) -> tuple[str, ...] | None:
    """The flags in ``throttled=0x50005``, or ``None`` where nobody answers so."""
    try:
        bits = int(run("get_throttled").strip().removeprefix("throttled="), 16)
    except (OSError, ValueError):
        return None
    now = [name for bit, name in THROTTLED_BITS.items() if bits >> bit & 1]
    return (*now, *(f"{name} since start" for bit, name in THROTTLED_BITS.items() if bits >> bit + _SINCE_START & 1))


def _value(text: str, name: str) -> str:
    """Of ``name : value`` lines, the first value."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _memory(meminfo: str) -> int:
    kilobytes = _value(meminfo, "MemTotal").split()
    return int(kilobytes[0]) * 1024 if kilobytes and kilobytes[0].isdigit() else 0
