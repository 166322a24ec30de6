"""What a bundle is, from the bundle alone: no engine and no graph library is needed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgecap.runtime.bundle.bundle import Bundle, FileEntry
from edgecap.runtime.bundle.documents import graph_sets, read_evaluation, read_graph_facts
from edgecap.runtime.bundle.manifest import GRAPH_ROLES, set_name

UNKNOWN = {"ops": None, "parameters": None, "macs": None}


def describe(bundle: Bundle) -> dict[str, Any]:
    """Everything that ``edgecap inspect`` tells, as JSON. Raises :class:`BundleError` for a malformed document.

    Sizes are in bytes; those of ``sets`` are of both graphs, by ``"runtime-precision"``. ``ops``, ``parameters`` and
    ``macs`` of a graph are ``None`` where the bundle does not record them, ``passes_gate`` where captions were not
    measured; ``evaluation`` is ``None`` when nothing was evaluated, ``confidence`` when it was not calibrated.
    """
    manifest = bundle.manifest
    facts = read_graph_facts(bundle)
    return {
        "bundle": manifest.label,
        "path": str(bundle.path),
        "bundle_id": manifest.bundle_id,
        "name": manifest.name,
        "preset": manifest.preset,
        "created_by": manifest.created_by,
        "min_runtime": manifest.min_runtime,
        "dims": asdict(manifest.dims),
        "generation": bundle.generation.to_json(),
        "files": [_file(entry) for entry in manifest.files],
        "graphs": [
            _graph(entry) | facts.get(entry.path, UNKNOWN) for entry in manifest.files if entry.role in GRAPH_ROLES
        ],
        "sets": _set_sizes(bundle),
        "bytes": sum(entry.bytes for entry in manifest.files),
        "evaluation": read_evaluation(bundle),
        "confidence": bundle.confidence.to_json() if bundle.confidence else None,
    }


def _file(entry: FileEntry) -> dict[str, Any]:
    return {"path": entry.path, "role": entry.role, "bytes": entry.bytes, "sha256": entry.sha256}


def _graph(entry: FileEntry) -> dict[str, Any]:
    """The manifest's facts of a graph; what another runtime's graphs have is ``None`` or empty."""
    names = ("path", "role", "runtime", "precision", "opset", "ir_version", "signatures", "passes_gate")
    tensors = {name: [asdict(tensor) for tensor in getattr(entry, name)] for name in ("inputs", "outputs")}
    return {name: getattr(entry, name) for name in names} | tensors


def _set_sizes(bundle: Bundle) -> dict[str, int]:
    """Bytes of the encoder and the decoder step, together, of each runtime and precision."""
    sizes = {}
    for runtime, precision in graph_sets(bundle):
        entries = [bundle.graph(role, runtime, precision) for role in GRAPH_ROLES]
        sizes[set_name(runtime, precision)] = sum(entry.bytes for entry in entries if entry is not None)
    return sizes
