"""JSON files of a bundle that no answer needs, read on demand: ``golden.json``, ``graphs.json``, ``eval.json``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.entries import PRECISIONS, FileEntry, GraphSet
from edgecap.runtime.bundle.fields import Fields
from edgecap.runtime.bundle.json_document import read_document
from edgecap.runtime.bundle.tasks import CAPTION, LABEL

GOLDEN = "golden/golden.json"
SEARCHES = ("greedy", "beam")
MAX_TOLERANCE = 1.0  # beyond it a tensor of zeros would pass for any

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Record:
    """What a graph set made of the golden photo: values of its tensors by name, and what it said of the photo."""

    tensors: Mapping[str, NDArray[np.float64]]  # (n,) each, in the order in which an answer is made
    captions: Mapping[str, str]  # a captioner's, by search
    labels: Mapping[str, float] = field(default_factory=dict)  # a labeller's and their similarities, the nearest first

    @classmethod
    def from_json(cls, entry: Fields, task: str) -> Record:
        """From the output of :func:`edgecap.runtime.verify.record.record_of`. Raises ``ValueError``."""
        values = entry.object("tensors")
        tensors = {name: np.array(values.values(name, float), np.float64) for name in values.names()}
        if task == LABEL:
            recorded = entry.object("labels")
            labels = {name: recorded.get(name, float) for name in recorded.names()}
            if not labels:
                raise ValueError("a record has no labels")
            return cls(tensors, {}, labels)
        captions = entry.object("captions")
        return cls(tensors, {name: captions.object(name).get("caption", str) for name in SEARCHES})


@dataclass(frozen=True)
class Golden:
    """The golden photo, and what was recorded of it where the bundle was exported."""

    photo: FileEntry
    input_sha256: str
    tolerances: Mapping[str, float]  # by set: the share of a tensor's largest value that its values may be off by
    records: Mapping[str, Record]  # by set

    @classmethod
    def from_json(cls, document: object, bundle: Bundle) -> Golden:
        """Read what concerns the graph sets of ``bundle``. Raises ``ValueError``."""
        entry = Fields(document, "golden")
        name = entry.get("photo", str)
        photo = next((file for file in bundle.manifest.files if file.path == name), None)
        if photo is None:
            raise ValueError(f"the photo {name!r} is no file of the bundle")
        tolerances, recorded = entry.object("tolerances"), entry.object("graphs")
        sets = [graphs for graphs in bundle.manifest.graph_sets if recorded.has(graphs.name)]
        task = bundle.manifest.task
        records = {graphs.name: Record.from_json(recorded.object(graphs.name), task) for graphs in sets}
        limits = {graphs.name: _tolerance(tolerances, coarsest(bundle, graphs)) for graphs in sets}
        return cls(photo, entry.get("input_sha256", str), limits, records)


def _tolerance(tolerances: Fields, precision: str) -> float:
    tolerance = tolerances.get(precision, float)
    if not 0 <= tolerance <= MAX_TOLERANCE:
        raise ValueError(f"the tolerance of {precision} must be between 0 and {MAX_TOLERANCE:g}, not {tolerance}")
    return tolerance


def coarsest(bundle: Bundle, graphs: GraphSet) -> str:
    """The coarsest precision among the graphs of a set: what its results may be off by is this one's."""
    return min((graph.precision for graph in bundle.manifest.entries(graphs).values()), key=PRECISIONS.index)


def read_golden(bundle: Bundle) -> Golden | None:
    """``golden.json``, or ``None`` without one. Raises :class:`BundleError`."""
    entry = next((file for file in bundle.manifest.files if (file.role, file.path) == ("golden", GOLDEN)), None)
    return None if entry is None else _read(bundle, entry, lambda document: Golden.from_json(document, bundle))


def read_graph_facts(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """``graphs.json``: operators, parameters and MACs by graph file; empty without one. Raises :class:`BundleError`."""
    entry = _of_role(bundle, "graphs")
    return {} if entry is None else _read(bundle, entry, _graph_facts)


def _graph_facts(document: object) -> dict[str, dict[str, Any]]:
    facts = {}
    for path, value in _mapping(document, "graphs").items():
        entry = Fields(value, path)
        kinds = _mapping(value.get("ops"), f"{path}.ops")
        ops = {kind: entry.object("ops").get(kind, int) for kind in kinds}
        facts[path] = {"ops": ops, "parameters": entry.get("parameters", int), "macs": entry.get("macs", int)}
    return facts


def read_evaluation(bundle: Bundle) -> dict[str, Any] | None:
    """``eval.json`` without its parity, or ``None`` when nothing was evaluated. Raises :class:`BundleError`."""
    entry = _of_role(bundle, "eval")
    return None if entry is None else _read(bundle, entry, lambda document: _evaluation(document, bundle.manifest.task))


def _evaluation(document: object, task: str) -> dict[str, Any] | None:
    content = _mapping(document, "eval")
    if not content.get("results"):
        return None
    results = {name: _mapping(row, f"results.{name}") for name, row in _mapping(content["results"], "results").items()}
    entry, protocol = Fields(content, "eval"), Fields(content, "eval").object("protocol")
    for name in ("dataset", "split", "cpu"):
        protocol.get(name, str)
    protocol.get("photos", int)
    if task == CAPTION:
        protocol.get("tokenizer", str)
        protocol.get("beam", int)
        protocol.get("max_length", int)
        protocol.get("length_penalty", float)
    checkpoint = entry.get("checkpoint_sha256", str)
    return {"checkpoint_sha256": checkpoint, "protocol": content["protocol"], "results": results}


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a JSON object, not {type(value).__name__}")
    return value


def _of_role(bundle: Bundle, role: str) -> FileEntry | None:
    return next((file for file in bundle.manifest.files if file.role == role), None)


def _read(bundle: Bundle, entry: FileEntry, parse: Callable[[Any], Parsed]) -> Parsed:
    """The verified JSON file ``entry``, as ``parse`` reads it. Raises :class:`BundleError` naming the file."""
    return read_document(bundle.path / entry.path, bundle.read(entry), parse)
