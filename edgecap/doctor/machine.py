"""The machine: its processor, how much of it may be used, whether it is held back, and its memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

from edgecap.doctor.patient import Patient
from edgecap.doctor.report import Finding, ok, problem, warning
from edgecap.errors import brief
from edgecap.runtime.machine.facts import SINCE_START, ask_throttled, bf16_instructions, frequency_driver, memory
from edgecap.runtime.machine.facts import machine as this_machine
from edgecap.runtime.machine.probes import USEFUL_CORES, board_model, cpu_quota, usable_cores

# What a process that captions with the default bundle takes at its peak, by `edgecap bench` on x86-64: 106 MB in
# ONNX Runtime 1.23.0, 114 MB in 1.32.0.
CAPTION_BYTES = 115_000_000
HOT = 80.0  # degrees Celsius at which the Raspberry Pi's firmware begins to slow its cores, by its documentation
# In these drivers "powersave" sets the clock by the load; in all others it holds the lowest.
_FREE_POWERSAVE = ("intel_pstate", "amd-pstate-epp")
_DOT_PRODUCTS = {
    "aarch64": ("asimddp", "i8mm"),
    "x86_64": ("avx512_vnni", "avx_vnni", "amx_int8"),
}
_OTHERS = {"aarch64": ("asimd", "asimdhp"), "x86_64": ("avx2",)}
_ALL_HAVE = {"aarch64": "asimd", "x86_64": "sse2"}
_TOLD = {
    "asimd": "NEON (asimd)", "asimddp": "dot product (asimddp)", "asimdhp": "fp16 (asimdhp)", "i8mm": "i8mm",
    "avx2": "AVX2", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX-VNNI", "amx_int8": "AMX",
}  # fmt: skip


def machine(patient: Patient) -> Iterator[Finding]:
    """What it is."""
    here = this_machine(patient.root)
    yield ok("machine", f"{here.board or here.cpu}, {here.system}")


def cpu(patient: Patient) -> Iterator[Finding]:
    """Whether it has the instructions that make INT8 fast."""
    architecture, flags = patient.platform.architecture, patient.flags
    if architecture not in _DOT_PRODUCTS:
        found = f"cannot tell: not known for {architecture or 'this architecture'}"
        yield warning("cpu", found, "`edgecap bench` shows how fast it is")
        return
    if _ALL_HAVE[architecture] not in flags:  # nothing is named, or, in an emulator, what another processor has
        found = f"cannot tell: /proc/cpuinfo names no instructions of {architecture}"
        yield warning("cpu", found, "in a container, mount /proc; `edgecap bench` shows how fast it is")
        return
    there = [name for name in _OTHERS[architecture] + _DOT_PRODUCTS[architecture] if name in flags]
    told = ", ".join(_TOLD[name] for name in there) or "no AVX2"
    if any(name in flags for name in _DOT_PRODUCTS[architecture]):
        yield ok("cpu", told)
        return
    missing = "no dot product (asimddp)" if architecture == "aarch64" else "no VNNI"
    advice = "the golden photo, below, tells whether captions are right; `edgecap bench` shows how fast they are"
    if architecture == "aarch64":
        advice += ", and a Cortex-A76, as in the Raspberry Pi 5, has them"
    yield warning("cpu", f"{told}, {missing}: INT8 works, but slower than with such instructions", advice)


def training(patient: Patient) -> Iterator[Finding]:
    """Which precision ``edgecap train`` takes by itself on the processor; a graphics card is torch's to ask."""
    there = bf16_instructions(patient.flags)
    if there:
        yield ok("training", f"in bf16, by {' and '.join(there)}")
    elif not patient.flags:
        yield ok("training", "in fp32: /proc/cpuinfo names no instructions")
    else:
        yield ok("training", "in fp32: the processor has no bf16 instructions")


def cores(patient: Patient) -> Iterator[Finding]:
    """Whether captions may use as many as they can make use of."""
    there, usable, quota = os.cpu_count() or 1, usable_cores(), cpu_quota(patient.root)
    yield _cores(max(there, usable), usable, quota)


def _cores(there: int, usable: int, quota: float | None) -> Finding:
    useful = min(USEFUL_CORES, there)
    if quota is not None and quota < min(useful, usable):
        threads = max(1, int(quota))
        found = f"{usable} of {there}, but a control group grants the time of {quota:.2g}"
        return warning("cores", found, f"raise the container's limit, or caption with --threads {threads}")
    if usable < useful:
        advice = "start edgecap without taskset, or give the container more cores"
        return warning("cores", f"{usable} of {there} may be used", advice)
    return ok("cores", f"{usable} of {there} may be used")


def throttling(patient: Patient) -> Iterator[Finding]:
    """Whether a Raspberry Pi's firmware slows it down, for want of power or cooling."""
    try:
        flags = ask_throttled(patient.run)
    except OSError as error:
        if "Raspberry Pi" not in board_model(patient.root):
            yield ok("throttling", "cannot tell: only a Raspberry Pi says")
            return
        why = error.strerror or brief(error)
        advice = "try `vcgencmd get_throttled`; it takes the group video, and in a container the device /dev/vcio"
        yield warning("throttling", f"cannot tell: {why}", advice)
        return
    found = ", ".join(flags)
    power = "use the supply that came with the board or was made for it, and a short, thick cable"
    cooling = "give it a heat sink or a fan"
    if not flags:
        yield ok("throttling", "none since start")
    elif "under-voltage" in flags:
        yield problem("throttling", found, power)
    else:
        yield warning("throttling", found, power if f"under-voltage{SINCE_START}" in flags else cooling)


def temperature(patient: Patient) -> Iterator[Finding]:
    """Whether it is so hot that it will be slowed down."""
    degrees = patient.condition.temperature
    if degrees is None:
        yield ok("temperature", "cannot tell: there is no sensor")
    elif degrees >= HOT:
        found = f"{degrees:.0f} degrees Celsius"
        yield warning("temperature", found, "give it a heat sink or a fan: it slows down at 80 to 85")
    else:
        yield ok("temperature", f"{degrees:.0f} degrees Celsius")


def governor(patient: Patient) -> Iterator[Finding]:
    """Whether the clock is held at its lowest."""
    name, driver = patient.condition.governor, frequency_driver(patient.root)
    if name is None:
        yield ok("governor", "cannot tell: the clock is not Linux's to set")
    elif name == "powersave" and driver not in _FREE_POWERSAVE:
        advice = "echo ondemand | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        yield warning("governor", "powersave holds the clock at its lowest", advice)
    else:
        yield ok("governor", name)


def free_memory(patient: Patient) -> Iterator[Finding]:
    """Whether a caption fits."""
    left = memory(patient.root)
    if left.available is None:
        found = "cannot tell: /proc/meminfo does not say"
        yield warning("memory", found, f"a caption takes {_megabytes(CAPTION_BYTES)}: `free -m` may tell")
        return
    swap = left.free_swap or 0
    found = f"{_megabytes(left.available)} are left, and {_megabytes(swap)} of swap"
    takes = f"a caption takes {_megabytes(CAPTION_BYTES)}"
    if left.available >= CAPTION_BYTES:
        yield ok("memory", f"{found}; {takes}")
    elif left.available + swap >= CAPTION_BYTES:
        yield warning("memory", f"{found}; {takes}, and will be slow on swap", "end other programs")
    else:
        yield problem("memory", f"{found}; {takes}", "end other programs, or add swap")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
