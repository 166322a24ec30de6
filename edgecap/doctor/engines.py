"""The inference engines: which there are, whether they work, and what is known against them."""

from __future__ import annotations

from collections.abc import Iterator

from edgecap.doctor.known_bad import known_faults
from edgecap.doctor.patient import Patient
from edgecap.doctor.python import cannot_try
from edgecap.doctor.report import Finding, ok, problem, warning
from edgecap.doctor.trial import Trial
from edgecap.doctor.wheels import pip_line, too_old
from edgecap.runtime.engines.libraries import LIBRARIES


def engines(patient: Patient) -> Iterator[Finding]:
    """Every engine that is installed, and whether that will do."""
    if patient.numpy.state != "works":
        installed = ", ".join(engine.package for engine in patient.engines) or "none that is installed"
        yield warning("engines", f"cannot tell of {installed}: they take numpy", "repair numpy first, see above")
        return
    for engine in patient.engines:
        yield from _engine(engine, patient)
    if patient.has_engine:
        found = {engine: patient.engine(engine) for engine in LIBRARIES}
        told = [f"{engine} graphs run in {library.package}" for engine, library in found.items() if library]
        told += [f"nothing runs {engine} graphs" for engine, library in found.items() if not library]
        yield ok("engines", ", ".join(told))
    elif any(engine.state == "unknown" for engine in patient.engines):
        yield warning("engines", "cannot tell whether any works", "try to caption a photo")
    elif patient.engines:
        yield problem("engines", "none of those that are installed works", "repair one of them, see above")
    else:
        source = "no wheel of one is for this machine, see above: build ONNX Runtime or LiteRT from source"
        yield problem("engines", "none is installed", pip_line(patient.platform) or source)


def _engine(engine: Trial, patient: Patient) -> Iterator[Finding]:
    if engine.state == "unused":
        yield ok(engine.package, f"{engine.version or 'installed'}, not used: another LiteRT goes before it")
        return
    if engine.state == "unknown":
        yield cannot_try(engine)
    elif engine.state == "broken":
        found = f"{engine.version or 'installed'}, but does not import: {engine.problem}"
        advice = f"pip install --force-reinstall {engine.package}, another version of it, or another engine"
        yield (warning if patient.has_engine else problem)(engine.package, found, advice)
    elif oldest := too_old(engine.package, engine.version):
        found = f"{engine.version}; edgecap is made for {oldest} and newer"
        yield warning(engine.package, found, f"pip install --upgrade {engine.package}")
    else:
        yield ok(engine.package, engine.version or "installed")
    for fault in known_faults(engine, patient):
        yield Finding(engine.package, fault.status, fault.reason, fault.advice)
