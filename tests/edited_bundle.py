"""Bundles that tests change, as their makers could: the manifest agrees with what was changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgecap.runtime.bundle.files import MANIFEST
from edgecap.runtime.bundle.manifest import DIGEST_KEY, digest, written

Edit = Callable[[dict[str, Any]], object]


def edit_manifest(bundle: Path, edit: Edit, sealed: bool = True) -> None:
    """Change ``manifest.json``; ``sealed`` as its maker could, with identity and digest that fit."""
    document = json.loads((bundle / MANIFEST).read_text())
    edit(document)
    if sealed:
        lines = sorted(f"{file.get('path')} {file.get('sha256')}\n" for file in document["files"])
        document["bundle_id"] = hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
        document[DIGEST_KEY] = digest(document)
    (bundle / MANIFEST).write_bytes(written(document))


def edit_document(bundle: Path, name: str, content: bytes) -> None:
    """Replace one of the bundle's JSON documents, as its maker could."""
    (bundle / name).write_bytes(content)

    def edit(document: dict[str, Any]) -> None:
        (file,) = (file for file in document["files"] if file["path"] == name)
        file.update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))

    edit_manifest(bundle, edit)


def add_file(bundle: Path, name: str, role: str, content: bytes, **facts: Any) -> None:
    """Put a file into a bundle, as its maker could; ``facts`` replace those that the manifest has of it."""
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_bytes(content)
    identity = {"path": name, "role": role, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}

    def edit(document: dict[str, Any]) -> None:
        (entry,) = [file for file in document["files"] if file["path"] == name] or [{}]
        document["files"] = [file for file in document["files"] if file["path"] != name]
        document["files"].append({**entry, **facts, **identity})

    edit_manifest(bundle, edit)


def remove_file(bundle: Path, name: str) -> None:
    edit_manifest(bundle, lambda d: d.update(files=[file for file in d["files"] if file["path"] != name]))


def add_set(bundle: Path, engine: str, precision: str, content: bytes, **facts: Any) -> None:
    """List a graph set whose two graphs are ``content``, and have the tensors of the fp32 ones of ONNX Runtime."""
    graphs = {}
    known = {file["path"]: file for file in json.loads((bundle / MANIFEST).read_text())["files"]}
    for role in ("encoder", "decoder_step"):
        graphs[role] = f"{role}.{precision}.{engine}"
        tensors = known[f"{role}.fp32.onnx"]["graph"]
        graph = {**tensors, "engine": engine, "precision": precision, **facts}
        add_file(bundle, graphs[role], "graph", content, graph=graph)
    one = {"name": f"{engine}-{precision}", "engine": engine, "graphs": graphs, "passes_gate": None}
    edit_manifest(bundle, lambda document: document["graph_sets"].append(one))
