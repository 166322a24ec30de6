"""A tiny bundle that keeps the whole contract, made without torch: it names the colour of a photo.

Its sentences are "a <colour> photo"; the word after "a" is chosen by the colour that the encoder averaged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgecap.runtime.bundle.bundle import Graph
from edgecap.runtime.bundle.confidence import Calibration, Confidence
from edgecap.runtime.bundle.entries import GRAPH, FileEntry, GraphEntry, GraphSet, TensorSpec, set_name
from edgecap.runtime.bundle.entries import PRECISIONS as ALL_PRECISIONS
from edgecap.runtime.bundle.files import MANIFEST
from edgecap.runtime.bundle.generation import GenerationConfig
from edgecap.runtime.bundle.manifest import Manifest, bundle_id
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.runtime.engines.engine import Engine
from edgecap.runtime.photo.preprocess import PreprocessConfig

WORDS = ("a", "red", "green", "blue", "dark", "light", "photo", "picture")
VOCABULARY = Vocabulary(SPECIAL_TOKENS + WORDS)
DIMS = {
    "image_size": 32,
    "locations": 4,
    "feature_dim": 3,
    "key_dim": 3,
    "hidden_dim": 3,
    "vocab_size": len(VOCABULARY),
}
PREPROCESS = PreprocessConfig(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), size=32)
GENERATION = GenerationConfig(beam=3, max_length=6)
PRECISIONS = ("fp32", "int8")  # the same graphs under two names
# Of its fp32 graphs only
CONFIDENCE = Confidence(
    right="names the colour of the photo",
    protocol={"dataset": "colours", "split": "val", "photos": 100, "beam": 3},
    sets={"onnx-fp32": Calibration(slope=20.0, intercept=6.0, auc=0.75)},
)

OPSET, IR_VERSION = 17, 9
S, L, D, A, H, V = 32, 4, 3, 3, 3, len(VOCABULARY)
Axes = tuple[int | str, ...]
ENCODER_INPUTS: dict[str, Axes] = {"image": (1, 3, S, S)}
ENCODER_OUTPUTS: dict[str, Axes] = {
    "memory.features": (1, L, D),
    "memory.keys": (1, L, A),
    "state.h": (1, H),
    "state.c": (1, H),
}
STEP_INPUTS: dict[str, Axes] = {
    "token": ("N", "K"),
    "state.h": ("N", "K", H),
    "state.c": ("N", "K", H),
    "memory.features": ("N", L, D),
    "memory.keys": ("N", L, A),
}
STEP_OUTPUTS: dict[str, Axes] = {
    "log_probs": ("N", "K", V),
    "next.h": ("N", "K", H),
    "next.c": ("N", "K", H),
    "attention": ("N", "K", L),
}
# Of the signatures of a TensorFlow Lite step: a beam of 3 is filled up, one of 6 goes in two calls.
HYPOTHESES = (1, 4)
Graphs = Mapping[str, tuple[bytes, bytes]]  # by precision: encoder and decoder step


def onnx_graphs() -> Graphs:
    """The ONNX graphs of the bundle."""
    return dict.fromkeys(PRECISIONS, (encoder_graph(), step_graph()))


def write_tiny_bundle(
    path: Path,
    onnx: Graphs | None = None,
    tflite: Graphs | None = None,
    confidence: Confidence | None = None,
    **changes: Any,
) -> Path:
    """Write the bundle into the directory ``path``; ``changes`` replace fields of its manifest.

    Its graphs are :func:`onnx_graphs`, or those given; ``tflite`` may be those of :mod:`tiny_tflite`. ``confidence``
    may be :data:`CONFIDENCE`.
    """
    path.mkdir(parents=True)
    entries = [
        write_file(path, "preprocess.json", "preprocess", json_bytes(PREPROCESS.to_json())),
        write_file(path, "vocab.json", "vocab", json_bytes(VOCABULARY.to_json())),
        write_file(path, "generation.json", "generation", json_bytes(GENERATION.to_json())),
        write_file(path, "golden/note.txt", "golden", b"nothing is golden here\n"),
    ]
    if confidence is not None:
        entries.append(write_file(path, "confidence.json", "confidence", json_bytes(confidence.to_json())))
    sets = []
    for engine, graphs in (("onnx", onnx_graphs() if onnx is None else onnx), ("tflite", tflite or {})):
        for precision in sorted(graphs, key=ALL_PRECISIONS.index):
            files = {}
            for role, graph in zip(("encoder", "decoder_step"), graphs[precision], strict=True):
                entries.append(_write_graph(path, role, engine, precision, graph))
                files[role] = entries[-1].path
            sets.append(GraphSet(set_name(engine, precision), engine, files))
    own = {"name": "tiny-test", "task": "caption", "architecture": "lstm", "dims": DIMS}
    return write_manifest(path, entries, sets, **{**own, **changes})


def write_manifest(path: Path, entries: Sequence[FileEntry], sets: Sequence[GraphSet], **fields: Any) -> Path:
    """The manifest of a bundle whose files and graph sets are these, with the ``fields`` that say what it is."""
    facts = {
        "bundle_id": bundle_id(entries),
        "preset": "test",
        "created_by": "tests/tiny_bundle.py",
        "min_runtime": "0.1.0",
        "files": tuple(entries),
        "graph_sets": tuple(sets),
    }
    (path / MANIFEST).write_bytes(Manifest(**{**facts, **fields}).to_bytes())
    return path


def loaded(engine: str, pair: tuple[bytes, bytes], precision: str = "fp32", source: str = "b") -> Engine:
    """An encoder and a decoder step in their library."""
    from edgecap.runtime.engines.starting import start

    roles = zip(("encoder", "decoder_step"), pair, strict=True)
    return start({role: Graph(graph, graph_entry(role, engine, precision)) for role, graph in roles}, 1, source)


def encoder_graph() -> bytes:
    """Mean colours of the 2 x 2 quarters are features and keys; the mean colour of the photo is the state."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["map"], kernel_shape=[S // 2, S // 2], strides=[S // 2, S // 2]),
        helper.make_node("Reshape", ["map", "rows"], ["flat"]),  # (1, 3, L)
        helper.make_node("Transpose", ["flat"], ["memory.features"], perm=[0, 2, 1]),  # (1, L, 3)
        helper.make_node("Identity", ["memory.features"], ["memory.keys"]),
        helper.make_node("ReduceMean", ["memory.features"], ["state.h"], axes=[1], keepdims=0),  # (1, 3)
        helper.make_node("Neg", ["state.h"], ["state.c"]),
    ]
    return onnx_model("encoder", nodes, ENCODER_INPUTS, ENCODER_OUTPUTS, {"rows": np.array([1, 3, L], np.int64)})


def step_graph() -> bytes:
    """Logits are a table of what follows a word, plus the colours of the state and of the attended location."""
    nodes = [
        helper.make_node("Transpose", ["memory.keys"], ["keys_t"], perm=[0, 2, 1]),  # (N, A, L)
        helper.make_node("MatMul", ["state.h", "keys_t"], ["energy"]),  # (N, K, L)
        helper.make_node("Softmax", ["energy"], ["attention"], axis=-1),
        helper.make_node("MatMul", ["attention", "memory.features"], ["context"]),  # (N, K, D)
        helper.make_node("Add", ["state.h", "context"], ["colour"]),  # (N, K, 3)
        helper.make_node("MatMul", ["colour", "words_of_colour"], ["by_colour"]),  # (N, K, V)
        helper.make_node("Gather", ["follows", "token"], ["by_word"]),  # (N, K, V)
        helper.make_node("Add", ["by_word", "by_colour"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
        helper.make_node("Identity", ["state.h"], ["next.h"]),
        helper.make_node("Add", ["state.c", "state.h"], ["next.c"]),
    ]
    return onnx_model("decoder_step", nodes, STEP_INPUTS, STEP_OUTPUTS, step_constants())


def step_constants() -> dict[str, NDArray[np.float32]]:
    """The table of what follows a word (V, V), and the words by colour (3, V)."""
    follows = np.full((V, V), -4.0, np.float32)
    for before, after in (
        ("<start>", "a"),
        ("a", "red green blue dark light"),
        ("red green blue dark light", "photo picture"),
        ("photo picture", "<end>"),
    ):
        follows[np.ix_(VOCABULARY.encode(before.split()), VOCABULARY.encode(after.split()))] = 4.0
    follows[:, VOCABULARY.ids["photo"]] += 0.5
    words_of_colour = np.zeros((3, V), np.float32)
    for channel, word in enumerate(("red", "green", "blue")):
        words_of_colour[channel, VOCABULARY.ids[word]] = 1.0
    words_of_colour[:, VOCABULARY.ids["light"]] = 0.6
    words_of_colour[:, VOCABULARY.ids["dark"]] = -0.6
    return {"follows": follows, "words_of_colour": words_of_colour}


def onnx_model(name: str, nodes: list[Any], inputs: dict[str, Axes], outputs: dict[str, Axes], constants: Any) -> bytes:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(tensor, _type(tensor), shape) for tensor, shape in inputs.items()],
        [helper.make_tensor_value_info(tensor, _type(tensor), shape) for tensor, shape in outputs.items()],
        [numpy_helper.from_array(value, tensor) for tensor, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _type(tensor: str) -> int:
    return int(TensorProto.INT64 if tensor == "token" else TensorProto.FLOAT)


def _write_graph(path: Path, role: str, engine: str, precision: str, graph: bytes) -> FileEntry:
    return write_file(path, f"{role}.{precision}.{engine}", GRAPH, graph, graph_entry(role, engine, precision))


def graph_entry(role: str, engine: str, precision: str = "fp32") -> GraphEntry:
    """What the manifest says of a graph; of TensorFlow Lite's that :mod:`tiny_tflite` made."""
    inputs, outputs = (ENCODER_INPUTS, ENCODER_OUTPUTS) if role == "encoder" else (STEP_INPUTS, STEP_OUTPUTS)
    if engine == "onnx":
        return GraphEntry(engine, precision, specs_of(inputs), specs_of(outputs), OPSET, IR_VERSION)
    photos_last: dict[str, Axes] = {"image": (1, S, S, 3)} if role == "encoder" else inputs
    one_photo: dict[str, Axes] = {name: (1, *axes[1:]) for name, axes in photos_last.items()}
    made: dict[str, Axes] = {name: (1, *axes[1:]) for name, axes in outputs.items()}
    borders = "int8" if (role, precision) == ("encoder", "int8") else "float32"
    signatures = (role,) if role == "encoder" else tuple(f"{role}_{count}" for count in HYPOTHESES)
    return GraphEntry(engine, precision, specs_of(one_photo, borders), specs_of(made, borders), signatures=signatures)


def specs_of(tensors: dict[str, Axes], dtype: str = "float32") -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(n, "int64" if n == "token" else dtype, shape) for n, shape in tensors.items())


def write_file(path: Path, file: str, role: str, content: bytes, graph: GraphEntry | None = None) -> FileEntry:
    (path / file).parent.mkdir(exist_ok=True)
    (path / file).write_bytes(content)
    return FileEntry(file, role, hashlib.sha256(content).hexdigest(), len(content), graph)


def json_bytes(document: Any) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()
