"""Whether a bundle does on this machine what it did where it was exported: its files, its photo, its graph sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgecap.errors import OptionError
from edgecap.runtime.arguments import whole_number
from edgecap.runtime.bundle.bundle import Bundle, find_bundle
from edgecap.runtime.bundle.documents import GOLDEN, Golden, read_golden
from edgecap.runtime.bundle.entries import ENGINES, GraphSet
from edgecap.runtime.bundle.files import MANIFEST
from edgecap.runtime.engines import libraries
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.machine.threads import MAX_THREADS, default_threads
from edgecap.runtime.verify.golden_check import Check, check_graphs, check_photo
from edgecap.runtime.verify.strangers import checks_in_child


def verify(
    path: str | Path | None = None,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> list[Check]:
    """Check a bundle (by name or directory; the embedded default without one) on this machine.

    Its files, what becomes of its photo, and each of its graph sets (those of ``engine``, onnx or tflite, and of
    ``precision``, if named) whose engine is installed. Raises :class:`BundleError` for a bundle that does not open or
    has a malformed golden.json, :class:`OptionError` for a choice that it does not carry, and
    :class:`MissingExtraError` when the library of a named ``engine`` is not installed.
    """
    return list(checks(Bundle.open(find_bundle(path)), engine, precision, threads))


def checks(
    bundle: Bundle, engine: str | None = None, precision: str | None = None, threads: int | None = None
) -> Iterator[Check]:
    """As :func:`verify`, of an opened bundle and one by one; what it raises it raises before the first.

    Graphs of a bundle that does not come with the package are run in another process; where they end that process,
    their check has failed and says by which signal.
    """
    if threads is not None:
        whole_number("threads", threads, 1, MAX_THREADS)
    chosen = _chosen(bundle, engine, precision)
    if engine is not None:
        libraries.require(engine)
    golden = read_golden(bundle)
    count = len(bundle.manifest.files)
    yield Check("files", "ok", f"{count} of {count} match {MANIFEST}")  # or it would not have opened
    if golden is None:
        yield Check("photo", "failed", f"the bundle carries no {GOLDEN}")
        return
    check, image = check_photo(bundle, golden)
    yield check
    if image is None:
        return
    ran = False
    for check in _all_graphs(bundle, golden, chosen, image, threads or default_threads()):
        ran = ran or check.status != "skipped"
        yield check
    if not ran:
        problem = "no engine is installed that runs them" if chosen else "the bundle carries none"
        yield Check("graphs", "failed", f"nothing was verified: {problem}")


def _chosen(bundle: Bundle, engine: str | None, precision: str | None) -> list[GraphSet]:
    if engine not in (None, *ENGINES):
        raise OptionError(f"engine must be {' or '.join(ENGINES)}, not {engine!r}")
    sets = bundle.manifest.graph_sets
    chosen = [one for one in sets if engine in (None, one.engine) and precision in (None, one.precision)]
    if not chosen and (engine or precision):
        wanted = " ".join(word for word in (engine, precision) if word)
        there = ", ".join(f"{one.engine} {one.precision}" for one in sets) or "none"
        raise OptionError(f"{bundle.path} has no {wanted} graphs; it has: {there}")
    return chosen


def _all_graphs(
    bundle: Bundle, golden: Golden, sets: Sequence[GraphSet], image: FloatArray, threads: int
) -> Iterator[Check]:
    """The checks of all sets. What comes with the package is run here, and what is a stranger's in a child."""
    strange = [] if bundle.embedded else [s for s in sets if s.name in golden.records and libraries.installed(s.engine)]
    in_child = checks_in_child(bundle, strange, threads)
    for graphs in sets:
        yield next(in_child) if graphs in strange else check_graphs(bundle, golden, graphs, image, threads)
