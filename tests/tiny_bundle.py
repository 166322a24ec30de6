"""A tiny bundle that keeps the whole contract, made without torch: it names the colour of a photo.

Its sentences are "a <colour> photo"; the word after "a" is chosen by the colour that the encoder averaged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgecap.runtime.bundle.bundle import (
    MANIFEST,
    Dims,
    FileEntry,
    GenerationConfig,
    Manifest,
    PreprocessConfig,
    TensorSpec,
    bundle_id,
)
from edgecap.runtime.bundle.confidence import Calibration, Confidence
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary

WORDS = ("a", "red", "green", "blue", "dark", "light", "photo", "picture")
VOCABULARY = Vocabulary(SPECIAL_TOKENS + WORDS)
DIMS = Dims(image_size=32, locations=4, feature_dim=3, key_dim=3, hidden_dim=3, vocab_size=len(VOCABULARY))
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
ENCODER_OUTPUTS: dict[str, Axes] = {"features": (1, L, D), "keys": (1, L, A), "h0": (1, H), "c0": (1, H)}
STEP_INPUTS: dict[str, Axes] = {
    "token": ("N", "K"),
    "h": ("N", "K", H),
    "c": ("N", "K", H),
    "features": ("N", L, D),
    "keys": ("N", L, A),
}
STEP_OUTPUTS: dict[str, Axes] = {
    "log_probs": ("N", "K", V),
    "h_next": ("N", "K", H),
    "c_next": ("N", "K", H),
    "alpha": ("N", "K", L),
}
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
        _write(path, "preprocess.json", "preprocess", _json(PREPROCESS.to_json())),
        _write(path, "vocab.json", "vocab", _json(VOCABULARY.to_json())),
        _write(path, "generation.json", "generation", _json(GENERATION.to_json())),
        _write(path, "golden/note.txt", "golden", b"nothing is golden here\n"),
    ]
    if confidence is not None:
        entries.append(_write(path, "confidence.json", "confidence", _json(confidence.to_json())))
    for runtime, graphs in (("onnx", onnx_graphs() if onnx is None else onnx), ("tflite", tflite or {})):
        for precision, pair in graphs.items():
            for role, graph in zip(("encoder", "decoder_step"), pair, strict=True):
                entries.append(_write_graph(path, role, runtime, precision, graph))
    facts = {
        "bundle_id": bundle_id(entries),
        "name": "tiny-test",
        "preset": "test",
        "created_by": "tests/tiny_bundle.py",
        "min_runtime": "0.1.0",
        "dims": DIMS,
        "files": tuple(entries),
    }
    (path / MANIFEST).write_bytes(Manifest(**{**facts, **changes}).to_bytes())
    return path


def encoder_graph() -> bytes:
    """Mean colours of the 2 x 2 quarters are features and keys; the mean colour of the photo is the state."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["map"], kernel_shape=[S // 2, S // 2], strides=[S // 2, S // 2]),
        helper.make_node("Reshape", ["map", "rows"], ["flat"]),  # (1, 3, L)
        helper.make_node("Transpose", ["flat"], ["features"], perm=[0, 2, 1]),  # (1, L, 3)
        helper.make_node("Identity", ["features"], ["keys"]),
        helper.make_node("ReduceMean", ["features"], ["h0"], axes=[1], keepdims=0),  # (1, 3)
        helper.make_node("Neg", ["h0"], ["c0"]),
    ]
    return _model("encoder", nodes, ENCODER_INPUTS, ENCODER_OUTPUTS, {"rows": np.array([1, 3, L], np.int64)})


def step_graph() -> bytes:
    """Logits are a table of what follows a word, plus the colours of the state and of the attended location."""
    nodes = [
        helper.make_node("Transpose", ["keys"], ["keys_t"], perm=[0, 2, 1]),  # (N, A, L)
        helper.make_node("MatMul", ["h", "keys_t"], ["energy"]),  # (N, K, L)
        helper.make_node("Softmax", ["energy"], ["alpha"], axis=-1),
        helper.make_node("MatMul", ["alpha", "features"], ["context"]),  # (N, K, D)
        helper.make_node("Add", ["h", "context"], ["colour"]),  # (N, K, 3)
        helper.make_node("MatMul", ["colour", "words_of_colour"], ["by_colour"]),  # (N, K, V)
        helper.make_node("Gather", ["follows", "token"], ["by_word"]),  # (N, K, V)
        helper.make_node("Add", ["by_word", "by_colour"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
        helper.make_node("Identity", ["h"], ["h_next"]),
        helper.make_node("Add", ["c", "h"], ["c_next"]),
    ]
    return _model("decoder_step", nodes, STEP_INPUTS, STEP_OUTPUTS, step_constants())


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


def _model(name: str, nodes: list[Any], inputs: dict[str, Axes], outputs: dict[str, Axes], constants: Any) -> bytes:
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


def _write_graph(path: Path, role: str, runtime: str, precision: str, graph: bytes) -> FileEntry:
    def specs(tensors: dict[str, Axes]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(n, "int64" if n == "token" else "float32", shape) for n, shape in tensors.items())

    inputs, outputs = (ENCODER_INPUTS, ENCODER_OUTPUTS) if role == "encoder" else (STEP_INPUTS, STEP_OUTPUTS)
    facts: dict[str, Any] = {"inputs": specs(inputs), "outputs": specs(outputs)}
    facts |= {"opset": OPSET, "ir_version": IR_VERSION} if runtime == "onnx" else {}
    file = f"{role}.{precision}.{runtime}"
    return _write(path, file, role, graph, runtime=runtime, precision=precision, **facts)


def _write(path: Path, file: str, role: str, content: bytes, **facts: Any) -> FileEntry:
    (path / file).parent.mkdir(exist_ok=True)
    (path / file).write_bytes(content)
    return FileEntry(path=file, role=role, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), **facts)


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()
