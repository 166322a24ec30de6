"""All checks, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from edgecap.doctor import bundle, engines, machine, python
from edgecap.doctor.patient import Patient
from edgecap.doctor.report import Finding, warning
from edgecap.errors import brief

CHECKS: dict[str, Callable[[Patient], Iterable[Finding]]] = {
    "machine": machine.machine,
    "cpu": machine.cpu,
    "training": machine.training,
    "cores": machine.cores,
    "memory": machine.free_memory,
    "throttling": machine.throttling,
    "temperature": machine.temperature,
    "governor": machine.governor,
    "userland": python.userland,
    "architecture": python.architecture,
    "C library": python.c_library,
    "python": python.python,
    "numpy": python.numpy,
    "pillow": python.pillow,
    "engines": engines.engines,
    "bundle": bundle.bundle,
}


def examine(patient: Patient) -> Iterator[Finding]:
    """Every check's findings, one by one. Raises nothing: a check that breaks off is a finding, and others follow."""
    for name, check in CHECKS.items():
        try:
            yield from check(patient)
        except Exception as error:  # on a machine where something is wrong, anything may be
            found = f"cannot tell: {type(error).__name__}: {brief(error)}"
            yield warning(name, found, "this is a fault of edgecap: please report it")
