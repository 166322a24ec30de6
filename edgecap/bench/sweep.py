"""Every setting that a bundle and a machine allow: which of them is the fastest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgecap.bench.report import Row, Setting
from edgecap.errors import OptionError
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.documents import read_golden
from edgecap.runtime.bundle.entries import ENGINES, set_name
from edgecap.runtime.engines import libraries
from edgecap.runtime.loading import AUTO
from edgecap.runtime.machine.facts import machine
from edgecap.runtime.machine.threads import MAX_THREADS
from edgecap.runtime.machine.tuning import Measurement
from edgecap.runtime.verify.verification import checks


def possible_settings(
    bundle: Bundle, engine: str, precision: str, threads: Sequence[int] | None, beam: int
) -> list[Setting]:
    """What may be tried: engines that are installed, graphs whose captions passed their gate, and thread counts.

    Raises ``OptionError`` when nothing is left.
    """
    settings = [
        Setting(graphs.engine, graphs.precision, count, beam)
        for name in ENGINES
        if engine in (AUTO, name) and libraries.installed(name)
        for graphs in bundle.sets(name)
        if precision in (AUTO, graphs.precision) and graphs.passes_gate is not False
        for count in threads or thread_counts(machine().cores)
    ]
    if not settings:
        raise OptionError(f"{bundle.path} has no graphs to try: none of an engine that is installed passed its gate")
    return settings


def sound_settings(bundle: Bundle, settings: Sequence[Setting], say: Callable[[str], None]) -> list[Setting]:
    """Those whose graphs do on this machine what they did where they were exported; ``say`` is told of the others.

    Graphs without a golden record cannot be told, and stay. Raises ``BundleError`` for a malformed record, and
    ``OptionError`` when nothing is left.
    """
    golden = read_golden(bundle)
    if golden is None:
        return list(settings)
    wrong = set()
    for graphs in dict.fromkeys((one.engine, one.precision) for one in settings):
        found = checks(bundle, *graphs) if set_name(*graphs) in golden.records else ()
        for check in found:
            if (check.check, check.status) == ("graphs", "failed"):
                wrong.add(graphs)
                say(f"left out, as its captions would be wrong here: {check.text}")
    sound = [one for one in settings if (one.engine, one.precision) not in wrong]
    if not sound:
        raise OptionError(f"{bundle.path} has no graphs to try: none does here what it did where it was exported")
    return sound


def thread_counts(cores: int) -> tuple[int, ...]:
    """1, 2, 4, ... below the number of cores, and that."""
    cores = min(cores, MAX_THREADS)
    counts = [1]
    while counts[-1] * 2 < cores:
        counts.append(counts[-1] * 2)
    return tuple(dict.fromkeys([*counts, cores]))


def measurements(rows: Sequence[Row]) -> list[Measurement]:
    """What is kept of a sweep: the median caption of each setting."""
    return [
        Measurement(row.setting.engine, row.setting.precision, row.setting.threads, row.latency.total.p50)
        for row in rows
    ]
