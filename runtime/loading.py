"""From a bundle's name to a captioner: which engine, which graphs, how many threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgecap.errors import BundleError, OptionError, UnsupportedGraphError
from edgecap.runtime.arguments import whole_number
from edgecap.runtime.bundle.bundle import Bundle, find_bundle, unless_replaced
from edgecap.runtime.bundle.entries import ENGINES, PRECISIONS, GraphSet
from edgecap.runtime.captioner import Captioner
from edgecap.runtime.engines import libraries
from edgecap.runtime.engines.starting import start
from edgecap.runtime.machine.threads import MAX_THREADS, default_threads
from edgecap.runtime.machine.tuning import Measurement, fastest
from edgecap.runtime.verify.self_check import known_problem

AUTO = "auto"  # of a precision or an engine: the first that fits


def load(
    bundle: str | Path | None = None, *, engine: str = "auto", precision: str = "auto", threads: int | None = None
) -> Captioner:
    """Open a bundle and load its graphs: one's directory, the name of one that comes with the package, or its default.

    A bundle in the working directory goes before an embedded one of the same name: see
    :func:`~edgecap.runtime.bundle.bundle.find_bundle`.
    ``engine`` is ``onnx``, ``tflite``, or ``auto`` for the first of these that is installed and that the bundle has
    graphs for. ``precision`` is ``int8``, ``fp16``, ``fp32``, what a bundle calls a set of several precisions, or
    ``auto`` for the fastest whose captions passed the limits of the export; when the engine does not load its graphs,
    or the golden photo is known not to be on this machine what it was where they were exported, the next one takes its
    place, and :attr:`Captioner.notes` says so.
    ``threads`` defaults to the cores this process may use, at most 4. What is left to
    ``auto``, or threads that are not given, are those that ``edgecap bench --sweep`` found to be fastest on this
    machine, if it did. A bundle that is replaced meanwhile is loaded anew: a captioner has the old one or the new one,
    whole, and goes on with it whatever happens to the files. Raises
    :class:`~edgecap.errors.BundleError`, :class:`~edgecap.errors.OptionError`, and
    :class:`~edgecap.errors.MissingExtraError` when no engine for the bundle's graphs is installed.
    """
    if threads is not None:
        whole_number("threads", threads, 1, MAX_THREADS)
    if not isinstance(precision, str):
        raise OptionError(f"precision must be auto, {', '.join(PRECISIONS)}, not {precision!r}")
    if engine not in (AUTO, *ENGINES):
        raise OptionError(f"engine must be auto, {', '.join(ENGINES)}, not {engine!r}")
    path = find_bundle(bundle)
    return unless_replaced(path, lambda: _load(Bundle.open(path), engine, precision, threads))


def _load(opened: Bundle, engine: str, precision: str, threads: int | None) -> Captioner:
    tuned = _tuned(opened, engine, precision, threads)
    chosen = tuned.engine if tuned else _engine(opened, engine, precision)
    sets = [graphs for graphs in opened.sets(chosen) if precision in (AUTO, graphs.precision)]
    if tuned:
        threads = tuned.threads
        sets.sort(key=lambda graphs: graphs.precision != tuned.precision)  # stable: the others in their order after it
    *candidates, last = sets
    refusals: dict[str, str] = {}
    for candidate in candidates:
        try:
            captioner = _loaded(opened, candidate, threads, refusals)
        except UnsupportedGraphError as error:  # not the bundle's fault: its files are what was exported
            refusals[candidate.precision] = f"do not load in {error.engine} ({error.problem})"
            continue
        if (problem := known_problem(captioner)) is None:
            return captioner
        captioner.close()
        refusals[candidate.precision] = f"make other captions on this machine than where they were exported ({problem})"
    return _loaded(opened, last, threads, refusals)


def reopened(path: Path, bundle_id: str, engine: str, precision: str, threads: int) -> Captioner:
    """A captioner that was pickled, with the same graphs. Raises :class:`~edgecap.errors.BundleError` if they are gone.

    ``path`` is its bundle's directory.
    """
    opened = Bundle.open(path)
    if opened.manifest.bundle_id != bundle_id:
        raise BundleError(path, "is not the bundle any more that the captioner was pickled with: load it again")
    return _loaded(opened, opened.graph_set(engine, precision), threads, {})


def _tuned(bundle: Bundle, engine: str, precision: str, threads: int | None) -> Measurement | None:
    """What was found to be fastest here, where something is left open and it still can be had."""
    if AUTO not in (engine, precision) and threads is not None:
        return None
    given = [None if choice == AUTO else choice for choice in (engine, precision)]
    found = fastest(bundle.manifest.bundle_id, given[0], given[1], threads)
    if found is None or not libraries.installed(found.engine):
        return None
    if found.precision not in bundle.precisions(found.engine):
        return None
    return found if 1 <= found.threads <= MAX_THREADS else None


def _engine(bundle: Bundle, engine: str, precision: str) -> str:
    """The engine to use: onnx or tflite."""
    there = {name: bundle.precisions(name) for name in ENGINES}
    asked = ENGINES if engine == AUTO else (engine,)
    fitting = [name for name in asked if (there[name] if precision == AUTO else precision in there[name])]
    if not fitting:
        wanted = [choice for choice in (engine, precision) if choice != AUTO]
        others = [f"{name} {', '.join(precisions)}" for name, precisions in there.items() if precisions]
        has = f"it has: {'; '.join(others) or 'none'}"
        raise OptionError(f"{bundle.path} has no {' '.join([*wanted, 'graphs'])}; {has}. {_how_to_export(wanted)}")
    chosen = next(filter(libraries.installed, fitting), fitting[0])
    libraries.require(chosen)
    return chosen


def _how_to_export(wanted: Sequence[str]) -> str:
    options = "".join(f" --{choice}" for choice in wanted if choice in (*ENGINES, *PRECISIONS))
    return f"To have them:  edgecap export CHECKPOINT -o DIR{options} --data DATA  on a PC, then --bundle DIR"


def _loaded(bundle: Bundle, graphs: GraphSet, threads: int | None, refusals: Mapping[str, str]) -> Captioner:
    threads = threads or default_threads()
    notes = (f"{refused} graphs {reason}: {graphs.precision} is used" for refused, reason in refusals.items())
    loaded = start(bundle.read_graphs(graphs), threads, bundle.path)
    return Captioner(bundle, graphs, loaded, threads, tuple(notes), reopened)
