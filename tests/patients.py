"""What the tests of ``edgecap doctor`` share: machines made of recorded files, and libraries said to be there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from conftest import ENVIRONMENT

from edgecap.doctor.patient import Patient, Platform
from edgecap.doctor.report import Finding
from edgecap.doctor.trial import Trial

PI4_FEATURES = "fp asimd evtstrm crc32 cpuid"
PI5_FEATURES = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"  # Cortex-A76
)
PI = "Raspberry Pi 4 Model B Rev 1.4\0"
BOARD = Platform("Linux", "aarch64", 64, (3, 11, 2), "glibc", (2, 36))  # Raspberry Pi OS bookworm
SERVER = replace(BOARD, architecture="x86_64")
SOUND = {"numpy": "2.3.0", "PIL": "13.0.0", "onnxruntime": "1.32.0"}


def arm(features: str) -> str:
    """/proc/cpuinfo of a board."""
    return f"processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU implementer\t: 0x41\n\nprocessor\t: 1\n"


def x86(flags: str) -> str:
    """/proc/cpuinfo of a server."""
    return f"processor\t: 0\nmodel name\t: Some(R) Server CPU @ 2.60GHz\nflags\t\t: fpu sse2 {flags}\n"


def write(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Files below ``root``, and their folders."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def libraries(working: Mapping[str, str], broken: Mapping[str, str] | None = None) -> Callable[[str, bool], Trial]:
    """What :func:`edgecap.doctor.trial.try_import` says where these versions are installed, and no other."""

    def tried(library: str, used: bool = True) -> Trial:
        if library in (broken or {}):
            return Trial(library, "broken", (broken or {})[library], "ImportError: no such symbol")
        if library in working:
            return Trial(library, "works" if used else "unused", working[library])
        return Trial(library, "absent")

    return tried


def no_firmware(command: str) -> str:
    """vcgencmd where there is none."""
    raise FileNotFoundError(2, "No such file or directory", "vcgencmd")


def patient(root: Path, files: Mapping[str, str | bytes] | None = None, **others: Any) -> Patient:
    """A board with nothing but these files, and sound libraries."""
    facts = {"platform": BOARD, "run": no_firmware, "try_import": libraries(SOUND), **others}
    return Patient(root=write(root, files or {}), **facts)


def statuses(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """Checks and their statuses; whatever is not ok says what to do, and what is ok does not."""
    found = list(findings)
    assert all(finding.found and bool(finding.advice) == (finding.status != "ok") for finding in found)
    return [(finding.check, finding.status) for finding in found]


def only(findings: Iterable[Finding]) -> Finding:
    """The one finding."""
    (finding,) = findings
    statuses([finding])
    return finding


ENGINES = ("onnxruntime", "ai_edge_litert", "tflite_runtime", "tensorflow")


def without(*engines_absent: str) -> Callable[..., tuple[int, list[str], list[str]]]:
    """The command where these libraries are not installed."""

    def call(*arguments: object) -> tuple[int, list[str], list[str]]:
        code = (
            f"import sys; sys.modules.update(dict.fromkeys({engines_absent!r})); from edgecap.cli import main; main()"
        )
        command = [sys.executable, "-c", code, *map(str, arguments)]
        run = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
        return run.returncode, run.stdout.splitlines(), run.stderr.splitlines()

    return call
