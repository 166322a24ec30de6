"""A tiny labeller that keeps the whole contract, made without torch: it knows the colours of a photo."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from edited_bundle import Edit, add_file
from onnx import helper
from tiny_bundle import (
    IR_VERSION,
    OPSET,
    PREPROCESS,
    Axes,
    S,
    json_bytes,
    onnx_model,
    specs_of,
    write_file,
    write_manifest,
)

from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.documents import GOLDEN
from edgecap.runtime.bundle.entries import GRAPH, GraphEntry, GraphSet, set_name
from edgecap.runtime.bundle.entries import PRECISIONS as ALL_PRECISIONS
from edgecap.runtime.engines import libraries
from edgecap.runtime.engines.starting import start_embedder
from edgecap.runtime.labels.table import LabelTable
from edgecap.runtime.photo.preprocess import to_tensor
from edgecap.runtime.verify.record import record_of, tensor_digest

SPACE = "colours"
E = 3
# A label's names, and its vector: red, green and blue, from dark to light.
LABELS: dict[tuple[str, ...], tuple[int, int, int]] = {
    ("red", "rot", "\u043a\u0440\u0430\u0441\u043d\u044b\u0439"): (127, -127, -127),
    ("green", "gr\u00fcn", "\u7dd1"): (-127, 127, -127),
    ("blue", "blau"): (-127, -127, 127),
    ("dark",): (-127, -127, -127),
    ("light", "a page of paper"): (127, 127, 127),
    ("a stop sign at sunset",): (127, -60, -127),
}
DIMS = {"image_size": S, "embedding_dim": E}
INPUTS: dict[str, Axes] = {"image": ("N", 3, S, S)}
OUTPUTS: dict[str, Axes] = {"embedding": ("N", E)}
LabelGraphs = Mapping[str, bytes]  # by precision


def label_table(precision: str = "int8", **changes: Any) -> LabelTable:
    """The table of the bundle, or one like it; ``changes`` replace its fields."""
    vectors = np.array(list(LABELS.values()), np.int8)
    facts = {
        "space": SPACE,
        "names": tuple(LABELS),
        "vectors": vectors if precision == "int8" else vectors.astype(np.float16) / 16,
        "scales": np.full(len(vectors), 1 / 127, np.float32) if precision == "int8" else None,
        "slopes": np.full(len(vectors), 10, np.float32),
        "intercepts": np.full(len(vectors), -8, np.float32),
        "thresholds": np.full(len(vectors), 0.5, np.float32),
    }
    return LabelTable(**{**facts, **changes})


def label_graph() -> bytes:
    """The mean colour of a photo."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),  # (N, 3, 1, 1)
        helper.make_node("Flatten", ["mean"], ["embedding"]),  # (N, 3)
    ]
    return onnx_model("encoder", nodes, INPUTS, OUTPUTS, {})


def write_label_bundle(
    path: Path,
    onnx: LabelGraphs | None = None,
    tflite: LabelGraphs | None = None,
    table: LabelTable | None = None,
    **changes: Any,
) -> Path:
    """Write the bundle into the directory ``path``; ``changes`` replace fields of its manifest.

    Its ONNX graphs are the same one in fp32 and INT8, or those given.
    """
    path.mkdir(parents=True)
    entries = [
        write_file(path, "preprocess.json", "preprocess", json_bytes(PREPROCESS.to_json())),
        write_file(path, "labels.json", "labels", json_bytes((table or label_table()).to_json())),
    ]
    sets = []
    all_graphs = {
        "onnx": dict.fromkeys(("fp32", "int8"), label_graph()) if onnx is None else onnx,
        "tflite": tflite or {},
    }
    for engine, graphs in all_graphs.items():
        for precision in sorted(graphs, key=ALL_PRECISIONS.index):
            entry = label_entry(engine, precision)
            entries.append(write_file(path, f"encoder.{precision}.{engine}", GRAPH, graphs[precision], entry))
            sets.append(GraphSet(set_name(engine, precision), engine, {"encoder": entries[-1].path}))
    own = {"name": "tiny-labels", "task": "label", "architecture": "labels", "dims": DIMS}
    return write_manifest(path, entries, sets, **{**own, **changes})


def label_entry(engine: str, precision: str) -> GraphEntry:
    """What the manifest says of the graph."""
    if engine == "onnx":
        return GraphEntry(engine, precision, specs_of(INPUTS), specs_of(OUTPUTS), OPSET, IR_VERSION)
    borders = "int8" if precision == "int8" else "float32"
    image: dict[str, Axes] = {"image": (1, S, S, 3)}
    made: dict[str, Axes] = {"embedding": (1, E)}
    return GraphEntry(engine, precision, specs_of(image, borders), specs_of(made, borders), signatures=("encoder",))


def write_label_golden(path: Path, photo: bytes, spoil: Edit = lambda record: None) -> None:
    """Record what the bundle's graphs make of a photo, in every engine that is installed, and ``spoil`` each record."""
    bundle = Bundle.open(path)
    image = to_tensor(photo, bundle.preprocess)
    records = {
        graphs.name: record_of(bundle, start_embedder(bundle.read_graphs(graphs), 1, "bundle"), image)
        for graphs in bundle.manifest.graph_sets
        if libraries.installed(graphs.engine)
    }
    for record in records.values():
        spoil(record)
    document = {
        "photo": "golden/photo.png",
        "credit": "nobody",
        "input_sha256": tensor_digest(image),
        "tolerances": {"fp32": 0.001, "fp16": 0.01, "int8": 0.1},
        "graphs": records,
    }
    add_file(path, "golden/photo.png", "golden", photo)
    add_file(path, GOLDEN, "golden", json.dumps(document).encode())
