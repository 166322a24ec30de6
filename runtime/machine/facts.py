"""The machine: what it is, and whether it is holding back."""

from __future__ import annotations

import platform
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgecap.runtime.machine.probes import (
    Run,
    board_model,
    file_text,
    group_memory,
    usable_cores,
    vcgencmd,
    whole_number,
)

# Instructions that the engines' kernels are chosen by, as Linux names them.
X86_FEATURES = ("avx2", "fma", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
ARM_FEATURES = ("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve")  # asimddp: dot product; asimdhp: fp16
# Those of them that multiply in bfloat16, and what people call them.
BF16_FEATURES = {"avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX", "bf16": "Arm's bf16"}
# Bits of the Raspberry Pi firmware's get_throttled; the same, 16 higher, have been since the start.
THROTTLED_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
SINCE_START = " since start"
_SINCE_START_BITS = 16
_FREQUENCY = "sys/devices/system/cpu/cpu0/cpufreq"


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


@dataclass(frozen=True)
class Memory:
    """Bytes; ``None`` where the machine does not say."""

    total: int | None
    available: int | None  # without swapping
    free_swap: int | None


def machine(root: Path = Path("/")) -> Machine:
    """This machine; another root is for tests."""
    known = cpu_flags(root)
    board = board_model(root)
    return Machine(
        board=board,
        cpu=_value(file_text(root / "proc/cpuinfo"), "model name") or board or platform.processor() or "unknown",
        architecture=platform.machine(),
        features=tuple(name for name in (*X86_FEATURES, *ARM_FEATURES) if name in known),
        cores=usable_cores(),
        memory_bytes=memory(root).total or 0,
        system=platform.platform(),
        python=platform.python_version(),
    )


def cpu_flags(root: Path = Path("/")) -> frozenset[str]:
    """All instructions that Linux names of the first core, of which features are a few; empty where it names none."""
    cpuinfo = file_text(root / "proc/cpuinfo")
    return frozenset(f"{_value(cpuinfo, 'flags')} {_value(cpuinfo, 'Features')}".split())


def cpu_kind(root: Path = Path("/")) -> str:
    """What INT8 captions and times depend on: the architecture, and the instructions that kernels are chosen by."""
    architecture, flags = platform.machine().replace("AMD64", "x86_64"), cpu_flags(root)
    if architecture == "aarch64":
        return f"aarch64 {'with' if 'asimddp' in flags else 'without'} dot products"
    if architecture != "x86_64":
        return architecture or "unknown"
    for names, told in (
        ({"avx512_vnni"}, "with AVX-512 VNNI"),
        ({"avx_vnni"}, "with AVX-VNNI"),
        ({"avx2"}, "with AVX2, without VNNI"),
        ({"sse4_2"}, "with SSE4.2, without AVX2"),
    ):
        if names & flags:
            return f"x86-64 {told}"
    return "x86-64"


def bf16_instructions(flags: Collection[str]) -> tuple[str, ...]:
    """The instructions for bfloat16 among a CPU's ``flags``, by the names that people know."""
    return tuple(told for name, told in BF16_FEATURES.items() if name in flags)


def memory(root: Path = Path("/")) -> Memory:
    """The memory that there is, and that is left."""
    meminfo = file_text(root / "proc/meminfo")
    return Memory(*(_bytes(_value(meminfo, name)) for name in ("MemTotal", "MemAvailable", "SwapFree")))


def free_memory(root: Path = Path("/")) -> int | None:
    """The bytes that this process may still take without swapping; ``None`` where nothing says."""
    known = [left for left in (memory(root).available, group_memory(root)) if left is not None]
    return min(known, default=None)


def condition(root: Path = Path("/"), run: Run = vcgencmd) -> Condition:
    """How the machine is doing now."""
    kilohertz = whole_number(file_text(root / _FREQUENCY / "scaling_cur_freq"))
    zones = [whole_number(file_text(zone / "temp")) for zone in root.glob("sys/class/thermal/thermal_zone*")]
    return Condition(
        governor=file_text(root / _FREQUENCY / "scaling_governor") or None,
        megahertz=None if kilohertz is None else kilohertz // 1000,
        temperature=max((thousandths / 1000 for thousandths in zones if thousandths is not None), default=None),
        throttled=throttled_flags(run),
    )


def frequency_driver(root: Path = Path("/")) -> str:
    """What sets the clock of the first core, as Linux names it; empty where nothing does."""
    return file_text(root / _FREQUENCY / "scaling_driver")


def throttled_flags(run: Run) -> tuple[str, ...] | None:
    """As :func:`ask_throttled`; ``None`` where nobody answers so."""
    try:
        return ask_throttled(run)
    except OSError:
        return None


def ask_throttled(run: Run) -> tuple[str, ...]:
    """The flags in the firmware's ``throttled=0x50005``. Raises ``OSError`` where there is none, or another answer."""
    answer = run("get_throttled").strip()
    try:
        bits = int(answer.removeprefix("throttled="), 16)
    except ValueError:
        raise OSError(f"vcgencmd says {answer!r:.60}") from None
    now = [name for bit, name in THROTTLED_BITS.items() if bits >> bit & 1]
    earlier = [name for bit, name in THROTTLED_BITS.items() if bits >> bit + _SINCE_START_BITS & 1]
    return (*now, *(f"{name}{SINCE_START}" for name in earlier))


def _value(text: str, name: str) -> str:
    """Of ``name : value`` lines, the first value."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _bytes(kilobytes: str) -> int | None:
    number = whole_number(kilobytes.removesuffix("kB"))
    return None if number is None else number * 1024
