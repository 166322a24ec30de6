"""What the tests of ``edgecap verify`` and ``inspect`` share: files put into a bundle, and a golden record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import encoded
from edited_bundle import add_file

from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.documents import GOLDEN
from edgecap.runtime.engines import libraries
from edgecap.runtime.engines.starting import start
from edgecap.runtime.photo.preprocess import to_tensor
from edgecap.runtime.verify.golden_check import Check
from edgecap.runtime.verify.record import golden_record, tensor_digest
from edgecap.runtime.verify.verification import verify

PHOTO = "golden/red.png"


def write_golden(path: Path) -> None:
    """Record what the bundle's graphs make of a red photo, in every engine that is installed."""
    bundle, photo = Bundle.open(path), encoded("red", file_format="PNG")
    image = to_tensor(photo, bundle.preprocess)
    options = bundle.generation.options(bundle.vocabulary)
    records = {}
    for graphs in bundle.manifest.graph_sets:
        if libraries.installed(graphs.engine):
            loaded = start(bundle.read_graphs(graphs), 1, "bundle")
            records[graphs.name] = golden_record(loaded, image, bundle.vocabulary, options)
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
    found = verify(bundle, engine="onnx", threads=1, **choice)
    return {str(check.precision): check for check in found if check.check == "graphs"}
