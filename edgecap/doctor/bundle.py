"""A bundle on this machine: its files, what was measured with it, an engine for it, and its golden photo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgecap.doctor.patient import Patient
from edgecap.doctor.report import Finding, ok, problem, warning
from edgecap.errors import BundleError, EngineError, TuningError
from edgecap.runtime.engines.libraries import LIBRARIES
from edgecap.runtime.machine.other_process import Ended, run_python
from edgecap.runtime.machine.tuning import remembered, tuning_file

if TYPE_CHECKING:
    from edgecap.runtime.bundle.bundle import Bundle

_AGAIN = "export, copy or install it again"


def bundle(patient: Patient) -> Iterator[Finding]:
    """Whether its files are whole, and there is an engine for them that does what it did where they were exported."""
    libraries = (patient.numpy, patient.pillow)
    if any(library.state != "works" for library in libraries):
        broken = next(library.package for library in libraries if library.state != "works")
        yield warning("bundle", f"cannot tell: it takes {broken}", f"repair {broken} first, see above")
        yield _tuning(None)
        return
    from edgecap.runtime.bundle.bundle import Bundle, find_bundle

    advice = "name another, or a bundle's directory" if patient.bundle is not None else "install edgecap again"
    try:
        path = find_bundle(patient.bundle)
        advice = _AGAIN
        opened = Bundle.open(path)
    except BundleError as error:
        yield problem("bundle", str(error), advice)
        yield _tuning(None)
        return
    count = len(opened.manifest.files)
    yield ok("bundle", f"{opened.manifest.label}: {count} of {count} files are as its manifest says")
    yield _tuning(opened.manifest.bundle_id)
    yield _golden(patient, opened)


def _tuning(bundle_id: str | None) -> Finding:
    """Whether what `edgecap bench --sweep` left is believed; of a bundle that does not open, whether it can be read."""
    try:
        measured = remembered(bundle_id or "")
    except TuningError as error:
        found = f"{error.path} {error.problem}; it is not followed"
        return warning("tuning", found, "run `edgecap bench --sweep` again, or delete the file")
    if measured:
        return ok("tuning", f"settings of this bundle measured on this machine: {len(measured)} ({tuning_file()})")
    if bundle_id is None:
        return ok("tuning", "nothing is torn; what was measured of this bundle cannot be told")
    return ok("tuning", "nothing was measured; `edgecap bench --sweep` finds the fastest engine and thread count")


def _golden(patient: Patient, opened: Bundle) -> Finding:
    """One set of graphs, that which captions are made with, on the golden photo."""
    from edgecap.runtime.bundle.documents import read_golden

    sets = opened.manifest.graph_sets
    if not sets:
        return problem("bundle", f"{opened.manifest.label} has no graphs", _AGAIN)
    chosen = next((graphs for graphs in sets if patient.engine(graphs.engine)), None)
    if chosen is None:
        return _no_engine(patient, list(dict.fromkeys(graphs.engine for graphs in sets)))
    try:
        golden = read_golden(opened)
    except BundleError as error:
        return problem("golden photo", str(error), _AGAIN)
    if golden is None:
        advice = "caption a photo that you know; what `edgecap export` makes has one"
        return warning("golden photo", "cannot tell: the bundle carries none", advice)
    return _verified(opened, chosen.engine, chosen.precision)


def _no_engine(patient: Patient, engines: list[str]) -> Finding:
    graphs = f"{' and '.join(engines)} graphs"
    there = [trial for trial in patient.engines if any(trial.library in LIBRARIES[engine] for engine in engines)]
    if any(trial.state == "unknown" for trial in there):
        return warning("bundle", f"cannot tell whether an engine works that runs its {graphs}", "see above")
    if there:
        advice = f"repair {' or '.join(trial.package for trial in there)}, see above"
    else:
        advice = " or ".join(f"pip install 'edgecap[{engine}]'" for engine in engines)
    return problem("bundle", f"no engine works that runs its {graphs}", advice)


def _verified(opened: Bundle, engine: str, precision: str) -> Finding:
    """What `edgecap verify` says, in a process that an engine may kill."""
    choice = ("--engine", engine, "--precision", precision, "--json")
    graphs, advice = f"{engine} {precision}", "`edgecap verify` tells more; try another version of the engine"
    try:
        ended = run_python("-m", "edgecap", "verify", *choice, "--", str(opened.path))
    except EngineError as error:
        return warning("golden photo", f"cannot tell: {error}", advice)
    checks = _checks(ended)
    if not checks:
        return problem("golden photo", f"{graphs}: {ended.how}", advice)
    failed = next((check for check in checks if check["status"] == "failed"), None)
    if failed is None:
        return ok("golden photo", f"{graphs}, {checks[-1]['library']}: {checks[-1]['detail']}")
    return problem("golden photo", f"{graphs}: {failed['check']}: {failed['detail']}", advice)


def _checks(ended: Ended) -> list[dict[str, Any]]:
    try:
        checks: list[dict[str, Any]] = json.loads(ended.out)["checks"]
    except (ValueError, KeyError, TypeError):
        return []
    return checks
