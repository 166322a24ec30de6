"""Which machines the engines' wheels are for, as PyPI had them in November 2026, and how old a library may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edgecap.doctor.patient import Platform
from edgecap.runtime.bundle.versions import version_numbers

Version = tuple[int, ...]


@dataclass(frozen=True)
class Wheels:
    """What ``pip install REQUIREMENT`` finds: for these Pythons, and C libraries of this version on."""

    requirement: str
    pythons: tuple[Version, Version]  # first and last
    glibc: Mapping[str, Version]  # by architecture

    @property
    def package(self) -> str:
        """Without the versions."""
        return re.split(r"[<=>]", self.requirement)[0]

    def suit(self, platform: Platform) -> bool:
        """Whether they can be installed there and imported. Of what is not Linux with glibc or musl, who knows."""
        first, last = self.pythons
        if platform.bits != 64 or not first <= platform.python[:2] <= last:
            return False
        if not platform.libc:
            return True
        least = self.glibc.get(platform.architecture)
        return platform.libc == "glibc" and least is not None and least <= platform.libc_version


# Of a package's rows the first is what plain pip takes. The C library is what the tag names, manylinux_2_28, but for
# LiteRT's on aarch64: tagged manylinux_2_27, its libraries ask for GLIBC_2.34 from 2.1.1 on, and 2.1.0's for 2.30.
WHEELS = (
    Wheels("onnxruntime", ((3, 11), (3, 14)), {"x86_64": (2, 28), "aarch64": (2, 28)}),
    Wheels("onnxruntime<1.29", ((3, 11), (3, 14)), {"x86_64": (2, 27), "aarch64": (2, 27)}),
    Wheels("ai-edge-litert", ((3, 10), (3, 14)), {"x86_64": (2, 27), "aarch64": (2, 34)}),
    Wheels("ai-edge-litert==2.1.0", ((3, 10), (3, 13)), {"x86_64": (2, 27), "aarch64": (2, 30)}),
    Wheels("tflite-runtime", ((3, 9), (3, 11)), {"x86_64": (2, 17), "aarch64": (2, 34)}),
)

# As pyproject.toml asks for them; tflite-runtime's is the one that was tried.
OLDEST = {"numpy": "1.26", "pillow": "13", "onnxruntime": "1.23", "ai-edge-litert": "2.1", "tflite-runtime": "2.14"}
EXTRAS = {"onnxruntime": "edgecap[onnx]", "ai-edge-litert": "edgecap[tflite]"}


def suitable(platform: Platform) -> list[Wheels]:
    """Of each package, the first wheels that are for this platform."""
    found: dict[str, Wheels] = {}
    for wheels in WHEELS:
        if wheels.suit(platform):
            found.setdefault(wheels.package, wheels)
    return list(found.values())


def pip_line(platform: Platform) -> str | None:
    """How to install an engine, ``None`` where no wheel is for this platform."""
    fitting = suitable(platform)
    if not fitting:
        return None
    return f"pip install '{EXTRAS.get(fitting[0].requirement, fitting[0].requirement)}'"


def too_old(package: str, version: str) -> str | None:
    """The oldest version that will do, where ``version`` is older."""
    oldest = OLDEST.get(package)
    try:
        return oldest if oldest and version_numbers(version) < version_numbers(oldest) else None
    except ValueError:
        return None
