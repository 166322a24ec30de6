"""What a bundle is, from the bundle alone: no engine and no graph library is needed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.documents import read_evaluation, read_graph_facts
from edgecap.runtime.bundle.entries import FileEntry, GraphSet
from edgecap.runtime.labels.table import LabelTable

UNKNOWN = {"ops": None, "parameters": None, "macs": None}


def describe(bundle: Bundle) -> dict[str, Any]:
    """Everything that ``edgecap inspect`` tells, as JSON. Raises :class:`BundleError` for a malformed document.

    Sizes are in bytes; that of a set is of all its graphs. ``ops``, ``parameters`` and ``macs`` of a graph are ``None``
    where the bundle does not record them, ``passes_gate`` of a set where captions were not measured, ``evaluation``
    when nothing was evaluated, and ``confidence`` when it was not calibrated. A labeller has no ``generation``, and a
    captioner no ``labels``.
    """
    manifest = bundle.manifest
    facts = read_graph_facts(bundle)
    return {
        "bundle": manifest.label,
        "path": str(bundle.path),
        "bundle_id": manifest.bundle_id,
        "name": manifest.name,
        "task": manifest.task,
        "architecture": manifest.architecture,
        "preset": manifest.preset,
        "created_by": manifest.created_by,
        "min_runtime": manifest.min_runtime,
        "dims": dict(manifest.dims),
        "generation": bundle.captioning.generation.to_json() if bundle.captioning else None,
        "labels": _labels(bundle.label_table) if bundle.label_table else None,
        "files": [_file(entry) for entry in manifest.files],
        "graphs": [_graph(entry) | facts.get(entry.path, UNKNOWN) for entry in manifest.files if entry.graph],
        "graph_sets": [_set(bundle, graphs) for graphs in manifest.graph_sets],
        "bytes": sum(entry.bytes for entry in manifest.files),
        "evaluation": read_evaluation(bundle),
        "confidence": bundle.confidence.to_json() if bundle.confidence else None,
    }


def _labels(table: LabelTable) -> dict[str, Any]:
    return {
        "space": table.space,
        "labels": len(table),
        "names": sum(map(len, table.names)),
        "width": table.width,
        "precision": table.precision,
    }


def _file(entry: FileEntry) -> dict[str, Any]:
    return {"path": entry.path, "role": entry.role, "bytes": entry.bytes, "sha256": entry.sha256}


def _graph(entry: FileEntry) -> dict[str, Any]:
    """The manifest's facts of a graph; what another engine's graphs have is ``None`` or empty."""
    assert entry.graph is not None
    return {"path": entry.path, **asdict(entry.graph)}


def _set(bundle: Bundle, graphs: GraphSet) -> dict[str, Any]:
    return {**asdict(graphs), "bytes": sum(entry.bytes for entry in bundle.files(graphs).values())}
