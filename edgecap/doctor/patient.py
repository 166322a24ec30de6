"""Who is examined: a machine, the Python on it, the libraries of that, and a bundle."""

from __future__ import annotations

import os
import platform
import struct
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from edgecap.doctor.trial import Trial, try_import
from edgecap.runtime.bundle.versions import version_numbers
from edgecap.runtime.engines.libraries import LIBRARIES, LITERT_LIBRARIES, ONNX_LIBRARY
from edgecap.runtime.machine.facts import Condition, condition, cpu_flags
from edgecap.runtime.machine.probes import Run, vcgencmd

_ARCHITECTURES = {"AMD64": "x86_64", "arm64": "aarch64"}  # one thing by two names


@dataclass(frozen=True)
class Platform:
    """What wheels are chosen by."""

    system: str  # Linux
    architecture: str  # x86_64, aarch64: the kernel's
    bits: int  # of Python
    python: tuple[int, ...]
    libc: str  # glibc, musl; empty for others
    libc_version: tuple[int, ...] = ()


def this_platform() -> Platform:
    """Where this runs."""
    libc, version = _libc()
    return Platform(
        system=platform.system(),
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        bits=struct.calcsize("P") * 8,
        python=sys.version_info[:3],
        libc=libc,
        libc_version=version,
    )


def _libc() -> tuple[str, tuple[int, ...]]:
    try:
        ask: Callable[[str], str | None] = getattr(os, "confstr", lambda name: None)  # only Unix has it
        name, _, version = (ask("CS_GNU_LIBC_VERSION") or "").partition(" ")
        return name, version_numbers(version)
    except (ValueError, OSError):  # only glibc knows the question
        return ("musl", ()) if "musl" in (sysconfig.get_config_var("SOABI") or "") else ("", ())


@dataclass(frozen=True)
class Patient:
    """What every check is given. All but ``bundle`` are others in tests only."""

    bundle: str | None = None
    root: Path = Path("/")
    run: Run = vcgencmd
    platform: Platform = field(default_factory=this_platform)
    try_import: Callable[[str, bool], Trial] = try_import

    @cached_property
    def flags(self) -> frozenset[str]:
        """Instructions of the processor, as Linux names them; empty where it names none."""
        return cpu_flags(self.root)

    @cached_property
    def condition(self) -> Condition:
        """How the machine is doing."""
        return condition(self.root, self.run)

    @cached_property
    def numpy(self) -> Trial:
        """numpy."""
        return self.try_import("numpy", True)

    @cached_property
    def pillow(self) -> Trial:
        """Pillow."""
        return self.try_import("PIL", True)

    @cached_property
    def engines(self) -> tuple[Trial, ...]:
        """Those installed. None is tried where numpy does not work, nor of LiteRT's one after the first that works."""
        used = self.numpy.state == "works"
        found = [self.try_import(ONNX_LIBRARY, used)]
        for library in LITERT_LIBRARIES:
            found.append(self.try_import(library, used))
            used = used and found[-1].state != "works"
        return tuple(trial for trial in found if trial.state != "absent")

    def engine(self, engine: str) -> Trial | None:
        """The library that runs the graphs of an engine (onnx or tflite); ``None`` where none works."""
        return next(
            (trial for trial in self.engines if trial.library in LIBRARIES[engine] and trial.state == "works"), None
        )

    @property
    def has_engine(self) -> bool:
        """Whether any works."""
        return any(trial.state == "works" for trial in self.engines)
