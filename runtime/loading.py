"""From a bundle's name to a captioner or a labeller: which engine, which graphs, how many threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TypeVar

from edgecap.errors import BundleError, OptionError, UnsupportedGraphError
from edgecap.runtime.arguments import whole_number
from edgecap.runtime.bundle.bundle import Bundle, find_bundle, unless_replaced
from edgecap.runtime.bundle.entries import ENGINES, PRECISIONS, GraphSet
from edgecap.runtime.bundle.tasks import CAPTION, LABEL, TASKS
from edgecap.runtime.captioner import Captioner
from edgecap.runtime.engines import libraries
from edgecap.runtime.engines.starting import start, start_embedder
from edgecap.runtime.labeller import Labeller
from edgecap.runtime.labels.table import LabelTable
from edgecap.runtime.labels.table_file import table_for
from edgecap.runtime.labels.text_side import TextSide
from edgecap.runtime.machine.threads import MAX_THREADS, default_threads
from edgecap.runtime.machine.tuning import Measurement, fastest
from edgecap.runtime.verify.self_check import known_problem

AUTO = "auto"  # of a precision or an engine: the first that fits

ModelT = TypeVar("ModelT", Captioner, Labeller)
Make = Callable[[Bundle, GraphSet, int, tuple[str, ...]], ModelT]


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
    return _opened(bundle, CAPTION, _captioner, engine, precision, threads)


def load_labeller(
    bundle: str | Path | None = None,
    *,
    table: LabelTable | str | PathLike[str] | None = None,
    text: TextSide | None = None,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Labeller:
    """Open a labeller's bundle as :func:`load` does a captioner's; none comes with this version, so it must be named.

    ``table`` is the file of another table of labels than the bundle's, of the same space. ``text`` embeds words that
    the table does not have. Raises what :func:`load` does.
    """
    if bundle is None:
        raise OptionError(
            "no labeller comes with this version of edgecap: name the directory of one,  edgecap label --bundle DIR  "
            "or load_labeller(DIR) in Python"
        )
    make = partial(_labeller, table=table, text=text)
    return _opened(bundle, LABEL, make, engine, precision, threads)


def _opened(
    bundle: str | Path | None, task: str, make: Make[ModelT], engine: str, precision: str, threads: int | None
) -> ModelT:
    """The bundle in an engine; options are checked first, then whether it is for ``task``."""
    if threads is not None:
        whole_number("threads", threads, 1, MAX_THREADS)
    if not isinstance(precision, str):
        raise OptionError(f"precision must be auto, {', '.join(PRECISIONS)}, not {precision!r}")
    if engine not in (AUTO, *ENGINES):
        raise OptionError(f"engine must be auto, {', '.join(ENGINES)}, not {engine!r}")
    path = find_bundle(bundle)

    def load_bundle() -> ModelT:
        opened = Bundle.open(path)
        opened.require(task)
        return _load(opened, make, engine, precision, threads)

    return unless_replaced(path, load_bundle)


def _load(opened: Bundle, make: Make[ModelT], engine: str, precision: str, threads: int | None) -> ModelT:
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
            model = _loaded(opened, make, candidate, threads, refusals)
        except UnsupportedGraphError as error:  # not the bundle's fault: its files are what was exported
            refusals[candidate.precision] = f"do not load in {error.engine} ({error.problem})"
            continue
        if (problem := known_problem(model)) is None:
            return model
        model.close()
        other = f"make other {TASKS[model.task].answers} on this machine than where they were exported"
        refusals[candidate.precision] = f"{other} ({problem})"
    return _loaded(opened, make, last, threads, refusals)


def _captioner(bundle: Bundle, graphs: GraphSet, threads: int, notes: tuple[str, ...]) -> Captioner:
    loaded = start(bundle.read_graphs(graphs), threads, bundle.path)
    return Captioner(bundle, graphs, loaded, threads, notes, reopened)


def _labeller(
    bundle: Bundle,
    graphs: GraphSet,
    threads: int,
    notes: tuple[str, ...],
    table: LabelTable | str | PathLike[str] | None,
    text: TextSide | None,
) -> Labeller:
    found = table_for(bundle, table)
    if text is not None and text.space != found.space:
        raise OptionError(f"the text side embeds in the space {text.space!r}, the labeller in {found.space!r}")
    loaded = start_embedder(bundle.read_graphs(graphs), threads, bundle.path)
    return Labeller(bundle, graphs, loaded, threads, notes, reopened_labeller, found, text)


def reopened(path: Path, bundle_id: str, engine: str, precision: str, threads: int) -> Captioner:
    """A captioner that was pickled, with the same graphs. Raises :class:`~edgecap.errors.BundleError` if they are gone.

    ``path`` is its bundle's directory.
    """
    return _again(path, bundle_id, _captioner, engine, precision, threads)


def reopened_labeller(
    path: Path,
    bundle_id: str,
    engine: str,
    precision: str,
    threads: int,
    table: LabelTable | None,
    text: TextSide | None,
) -> Labeller:
    """As :func:`reopened`, a labeller; a ``table`` that is not its bundle's is pickled with it."""
    return _again(path, bundle_id, partial(_labeller, table=table, text=text), engine, precision, threads)


def _again(path: Path, bundle_id: str, make: Make[ModelT], engine: str, precision: str, threads: int) -> ModelT:
    opened = Bundle.open(path)
    if opened.manifest.bundle_id != bundle_id:
        noun = TASKS[opened.manifest.task].noun
        raise BundleError(path, f"is not the bundle any more that the {noun} was pickled with: load it again")
    return _loaded(opened, make, opened.graph_set(engine, precision), threads, {})


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


def _loaded(
    bundle: Bundle, make: Make[ModelT], graphs: GraphSet, threads: int | None, refusals: Mapping[str, str]
) -> ModelT:
    notes = (f"{refused} graphs {reason}: {graphs.precision} is used" for refused, reason in refusals.items())
    return make(bundle, graphs, threads or default_threads(), tuple(notes))
