"""Python, and what wheels are chosen by: architecture, C library, bits; and the libraries that are always needed."""

from __future__ import annotations

from collections.abc import Iterator

from edgecap.doctor.known_bad import known_faults
from edgecap.doctor.patient import Patient, Platform
from edgecap.doctor.report import Finding, Status, ok, problem, warning
from edgecap.doctor.trial import Trial
from edgecap.doctor.wheels import WHEELS, pip_line, too_old
from edgecap.runtime.machine.probes import elf_bits

FIRST_PYTHON, LAST_PYTHON = (3, 11), (3, 13)
KNOWN = ("x86_64", "aarch64")
_64_BIT_OS = "install the 64-bit Raspberry Pi OS, or another 64-bit system"


def userland(patient: Patient) -> Iterator[Finding]:
    """Whether programs have 64 bits: a 64-bit kernel runs 32-bit ones too, and there are no wheels for these."""
    architecture = patient.platform.architecture
    if patient.platform.bits == 64:
        yield ok("userland", f"64-bit Python on {architecture or 'an unknown architecture'}")
        return
    found = f"{patient.platform.bits}-bit Python"
    if architecture not in KNOWN:
        found, advice = f"{found} on {architecture}: the engines have no wheels for it", _64_BIT_OS
    elif elf_bits(patient.root / "bin/sh") == 64:
        found, advice = f"{found} on a 64-bit system: the engines have no wheels for it", "use the system's own python3"
    else:
        found = f"{found} in a 32-bit system on a 64-bit kernel ({architecture}): the engines have no wheels for it"
        advice = _64_BIT_OS
    yield Finding("userland", _hindrance(patient), found, advice)


def architecture(patient: Patient) -> Iterator[Finding]:
    """Whether it is one that edgecap is for."""
    here = patient.platform
    found = f"{here.architecture or 'unknown'} on {here.system or 'an unknown system'}"
    if here.architecture in KNOWN and here.system == "Linux":
        yield ok("architecture", found)
        return
    wanted = "edgecap is for x86-64 and aarch64 on Linux"
    yield warning("architecture", f"{found}; {wanted}", "captions may be made here; nobody has tried")


def c_library(patient: Patient) -> Iterator[Finding]:
    """Whether it is as new as the engines' wheels need."""
    here = patient.platform
    name = f"{here.libc} {'.'.join(map(str, here.libc_version))}".strip()
    if here.libc == "musl":
        found = "musl, for which the engines have no wheels"
        yield Finding("C library", _hindrance(patient), found, "use a system with glibc, as Debian and its kin")
        return
    if here.libc != "glibc":
        yield ok("C library", "cannot tell: neither glibc nor musl")
        return
    if here.architecture not in KNOWN:
        yield ok("C library", name)
        return
    needs = {wheels.requirement: wheels.glibc[here.architecture] for wheels in WHEELS}
    unmet = [f"{wheels} needs {_dotted(least)}" for wheels, least in needs.items() if least > here.libc_version]
    if not unmet:
        yield ok("C library", f"{name}; the engines' wheels need {_dotted(max(needs.values()))} at most")
    elif len(unmet) == len(needs):
        yield Finding("C library", _hindrance(patient), f"{name}; {', '.join(unmet)}", "install a newer system")
    elif patient.has_engine:
        yield ok("C library", f"{name}; {', '.join(unmet)}")
    else:
        advice = pip_line(here) or "take another Python, see below"
        yield warning("C library", f"{name}; {', '.join(unmet)}", advice)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def python(patient: Patient) -> Iterator[Finding]:
    """Whether it is a version that edgecap is tested with."""
    version = patient.platform.python
    found = f"Python {_dotted(version)}"
    wanted = f"edgecap is tested with {_dotted(FIRST_PYTHON)} to {_dotted(LAST_PYTHON)}"
    advice = f"make a virtual environment with Python {_dotted(LAST_PYTHON)}"
    if FIRST_PYTHON <= version[:2] <= LAST_PYTHON:
        yield ok("python", found)
    elif version[:2] < FIRST_PYTHON:
        yield problem("python", f"{found} is too old; {wanted}", advice)
    elif _has_wheels(patient.platform):
        yield warning("python", f"{found}; {wanted}", f"if it fails, {advice}")
    else:
        yield Finding("python", _hindrance(patient), f"{found}, for which no engine has wheels; {wanted}", advice)


def _has_wheels(here: Platform) -> bool:
    return any(wheels.pythons[0] <= here.python[:2] <= wheels.pythons[1] for wheels in WHEELS)


def numpy(patient: Patient) -> Iterator[Finding]:
    """Whether it can be imported."""
    yield _library(patient.numpy)


def pillow(patient: Patient) -> Iterator[Finding]:
    """Whether it can be imported, and what is known against it."""
    yield _library(patient.pillow)
    for fault in known_faults(patient.pillow, patient):
        yield Finding(patient.pillow.package, fault.status, fault.reason, fault.advice)


def _library(trial: Trial) -> Finding:
    again = f"pip install --force-reinstall {trial.package}"
    if trial.state == "absent":
        return problem(trial.package, "not installed", f"pip install {trial.package}")
    if trial.state == "unknown":
        return cannot_try(trial)
    if trial.state == "broken":
        return problem(trial.package, f"{trial.version or 'installed'}, but does not import: {trial.problem}", again)
    oldest = too_old(trial.package, trial.version)
    if oldest is not None:
        found = f"{trial.version}; edgecap is made for {oldest} and newer"
        return warning(trial.package, found, f"pip install --upgrade {trial.package}")
    return ok(trial.package, trial.version or "installed")


def cannot_try(trial: Trial) -> Finding:
    """Of a library that may be all right."""
    found = f"{trial.version or 'installed'}, but cannot tell whether it works: {trial.problem}"
    return warning(trial.package, found, f"try  python3 -c 'import {trial.library}'")


def _hindrance(patient: Patient) -> Status:
    """How bad it is that there are no wheels: not at all where an engine works all the same, built on the spot."""
    return "warning" if patient.has_engine else "problem"
