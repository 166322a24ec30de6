"""What a machine says of itself, where it says so: its cores, the files of Linux, the Raspberry Pi's firmware."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

Run = Callable[[str], str]  # vcgencmd, or what stands for it

USEFUL_CORES = 4  # a board's; more only wait for each other on graphs as small as a captioner's
_PATIENCE = 5.0  # s
_MOST_DIGITS = 18  # of a number that any of these files tells


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(root: Path = Path("/")) -> float | None:
    """How many cores' time the control groups (version 1 or 2) grant this process; ``None`` without a limit."""
    quotas = []
    for group in _groups(root, "cpu"):
        time, _, period = file_text(group / "cpu.max").partition(" ")  # version 2: "50000 100000", or "max 100000"
        if not time:
            time, period = (file_text(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        microseconds, every = whole_number(time), whole_number(period)
        if microseconds and every and microseconds > 0 and every > 0:  # -1 is no limit
            quotas.append(microseconds / every)
    return min(quotas, default=None)


def group_memory(root: Path = Path("/")) -> int | None:
    """The bytes that the control groups (version 1 or 2) leave this process to take; ``None`` without a limit."""
    left = []
    for group in _groups(root, "memory"):
        for limit, taken in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, now = (whole_number(file_text(group / name)) for name in (limit, taken))
            if most is not None and now is not None:
                found = re.search(r"^inactive_file (\d+)$", file_text(group / "memory.stat"), re.MULTILINE)
                left.append(max(0, most - now + (int(found[1]) if found else 0)))  # files that it keeps in reserve
    return min(left, default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups that share something out to this process: its own, and those around.

    In a container they may be named from outside of it, and found at the top instead.
    """
    mount = root / "sys/fs/cgroup"
    for line in file_text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        for depth in range(len(parts), -1, -1):
            yield (mount / controllers).joinpath(*parts[:depth])


def file_text(file: Path) -> str:
    """What a file of ``/proc`` or ``/sys`` says; empty where it cannot be read."""
    try:
        return file.read_text(errors="replace").strip()
    except (OSError, ValueError):  # ValueError: a name with a NUL, from another such file
        return ""


def whole_number(text: str) -> int | None:
    """The number that a file or a field of one holds; ``None`` for anything else."""
    digits = text.strip()
    if len(digits) > _MOST_DIGITS:
        return None
    try:
        return int(digits)
    except ValueError:
        return None


def elf_bits(file: Path) -> int | None:
    """Whether a program is one of 32 or 64 bits; ``None`` where that cannot be told."""
    try:
        with file.open("rb") as program:
            start = program.read(5)
    except OSError:
        return None
    return {b"\x7fELF\x01": 32, b"\x7fELF\x02": 64}.get(start)


def board_model(root: Path = Path("/")) -> str:
    """The board's name in the device tree; empty where there is none."""
    return file_text(root / "proc/device-tree/model").rstrip("\0")


def vcgencmd(command: str) -> str:
    """What the Raspberry Pi's ``vcgencmd`` prints. Raises ``OSError`` where there is none, or it fails."""
    import subprocess  # slow to import, and seldom needed

    try:
        done = subprocess.run(
            ["vcgencmd", command], capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise OSError("vcgencmd does not answer") from error
    except subprocess.CalledProcessError as error:
        raise OSError(f"vcgencmd: {(error.stderr or error.stdout).strip() or error}") from error
    return done.stdout
