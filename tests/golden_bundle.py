"""What the tests of ``edgecap verify`` and ``inspect`` share: files put into a bundle, and a golden record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import encoded
from test_bundle import edit_manifest

from edgecap.runtime import engines
from edgecap.runtime.bundle import Bundle
from edgecap.runtime.documents import GOLDEN, graph_sets
from edgecap.runtime.golden import golden_record, tensor_digest
from edgecap.runtime.preprocess import to_tensor
from edgecap.runtime.verification import Check, verify

PHOTO = "golden/red.png"


def add_file(bundle: Path, name: str, role: str, content: bytes, **facts: Any) -> None:
    """Put a file into a bundle, as its maker could; ``facts`` replace those that the manifest has of it."""
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_bytes(content)
    identity = {"path": name, "role": role, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}

    def edit(document: dict[str, Any]) -> None:
        (entry,) = [file for file in document["files"] if file["path"] == name] or [{"inputs": [], "outputs": []}]
        document["files"] = [file for file in document["files"] if file["path"] != name]
        document["files"].append({**entry, **facts, **identity})

    edit_manifest(bundle, edit)


def remove_file(bundle: Path, name: str) -> None:
    edit_manifest(bundle, lambda d: d.update(files=[file for file in d["files"] if file["path"] != name]))


def write_golden(path: Path) -> None:
    """Record what the bundle's graphs make of a red photo, in every engine that is installed."""
    bundle, photo = Bundle.open(path), encoded("red", file_format="PNG")
    image = to_tensor(photo, bundle.preprocess)
    options = bundle.generation.options(bundle.vocabulary)
    records = {}
    for runtime, precision in graph_sets(bundle):
        if engines.installed(runtime):
            backend = engines.start(runtime, *bundle.read_graphs(runtime, precision), 1, "bundle")
            records[f"{runtime}-{precision}"] = golden_record(backend, image, bundle.vocabulary, options)
    document = {
        "photo": PHOTO,
        "credit": "nobody",
        "input_sha256": tensor_digest(image),
        "tolerances": {"fp32": 0.001, "fp16": 0.01, "int8": 0.1},
        "graphs": records,
    }
    add_file(path, PHOTO, "golden", photo)
    add_file(path, GOLDEN, "golden", json.dumps(document).encode())


def edit_golden(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((bundle / GOLDEN).read_text())
    edit(document)
    add_file(bundle, GOLDEN, "golden", json.dumps(document).encode())


def graph_checks(bundle: Path, **choice: Any) -> dict[str, Check]:
    """The checks of its ONNX graphs, by precision."""
    found = verify(bundle, backend="onnx", threads=1, **choice)
    return {str(check.precision): check for check in found if check.check == "graphs"}
