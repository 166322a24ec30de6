"""What a machine says of itself, where it says so: its cores, the files of Linux, the Raspberry Pi's firmware."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

Run = Callable[[str], str]  # vcgencmd, or what stands for it

_PATIENCE = 5.0  # s


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def file_text(file: Path) -> str:
    """What a file of ``/proc`` or ``/sys`` says; empty where it cannot be read."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def board_model(root: Path = Path("/")) -> str:
    """The board's name in the device tree; empty where there is none."""
    return file_text(root / "proc/device-tree/model").rstrip("\0")


def vcgencmd(command: str) -> str:
    """What the Raspberry Pi's ``vcgencmd`` prints. Raises ``OSError`` where there is none, or it fails."""
    import subprocess  # slow to import, and seldom needed

    try:
        done = subprocess.run(["vcgencmd", command], capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except subprocess.TimeoutExpired as error:
        raise OSError("vcgencmd does not answer") from error
    except subprocess.CalledProcessError as error:
        raise OSError(f"vcgencmd: {(error.stderr or error.stdout).strip() or error}") from error
    return done.stdout
