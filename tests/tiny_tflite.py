"""The tiny bundles' graphs for TensorFlow Lite: the same functions as their ONNX graphs, made with TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tiny_bundle import HYPOTHESES, STEP_INPUTS, Graphs, L, S, step_constants


def make_tflite_graphs(directory: Path) -> Path:
    """``directory``, with the graphs made in it.

    TensorFlow stays in a process of its own, as its weight and its chatter are large.
    """
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    subprocess.run([sys.executable, __file__, str(directory)], check=True, capture_output=True, env=environment)
    return directory


def made_tflite_graphs(directory: Path) -> Graphs:
    """The graphs that are in ``directory``. The INT8 encoder takes and gives INT8; its decoder step is the fp32 one."""
    step = (directory / "step").read_bytes()
    return {precision: ((directory / precision).read_bytes(), step) for precision in ("fp32", "int8")}


def made_label_graphs(directory: Path) -> dict[str, bytes]:
    """The labeller's graphs that are in ``directory``."""
    return {precision: (directory / f"label-{precision}").read_bytes() for precision in ("fp32", "int8")}


def edited(graph: bytes, edit: Callable[[Any], object]) -> bytes:
    """The graph after ``edit`` changed its flatbuffer, as an object of its schema."""
    import flatbuffers
    from ai_edge_litert.schema_py_generated import ModelT

    model = ModelT.InitFromPackedBuf(graph, 0)
    edit(model)
    builder = flatbuffers.Builder(len(graph))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def made_for_a_newer_engine(graph: bytes) -> bytes:
    """The graph with an operator of a version that no engine has yet."""

    def edit(model: Any) -> None:
        model.operatorCodes[0].version = 99

    return edited(graph, edit)


def main(directory: Path) -> None:
    import tensorflow as tf

    def encode(image: Any) -> dict[str, Any]:  # (1, S, S, 3)
        colours = tf.nn.avg_pool2d(image, S // 2, S // 2, "VALID")  # (1, 2, 2, 3)
        features = tf.reshape(colours, (1, L, 3))
        state = tf.reduce_mean(features, 1)  # (1, 3)
        memory = {"memory.features": features, "memory.keys": tf.identity(features)}
        return {**memory, "state.h": state, "state.c": -state}

    constants = step_constants()

    def step(token: Any, h: Any, c: Any, features: Any, keys: Any) -> dict[str, Any]:
        alpha = tf.nn.softmax(tf.matmul(h, keys, transpose_b=True))  # (1, K, L)
        colour = h + tf.matmul(alpha, features)  # (1, K, 3)
        logits = tf.gather(constants["follows"], token) + tf.matmul(colour, constants["words_of_colour"][np.newaxis])
        log_probs = tf.nn.log_softmax(logits)  # (1, K, V)
        return {"log_probs": log_probs, "next.h": tf.identity(h), "next.c": c + h, "attention": alpha}

    def converter(name: str, functions: dict[str, Any]) -> Any:
        saved = str(directory / f"{name}.saved")
        tf.saved_model.save(tf.Module(), saved, signatures=functions)
        return tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=list(functions))

    def embed(image: Any) -> dict[str, Any]:  # (1, S, S, 3)
        return {"embedding": tf.reduce_mean(image, (1, 2))}  # (1, 3)

    encoder = tf.function(encode).get_concrete_function(tf.TensorSpec((1, S, S, 3), name="image"))
    embedder = tf.function(embed).get_concrete_function(tf.TensorSpec((1, S, S, 3), name="image"))
    photos = np.random.default_rng(0).uniform(-2, 2, (8, 1, S, S, 3)).astype(np.float32)
    plain = np.stack([np.full((1, S, S, 3), value, np.float32) for value in (-2, 2)])
    for prefix, function in (("", encoder), ("label-", embedder)):
        (directory / f"{prefix}fp32").write_bytes(converter(f"{prefix}fp32", {"encoder": function}).convert())
        quantizing = converter(f"{prefix}int8", {"encoder": function})
        quantizing.optimizations = [tf.lite.Optimize.DEFAULT]
        quantizing.representative_dataset = lambda: ({"image": photo} for photo in (*photos, *plain))
        quantizing.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        quantizing.inference_input_type = quantizing.inference_output_type = tf.int8
        (directory / f"{prefix}int8").write_bytes(quantizing.convert())
    steps = {}
    for count in HYPOTHESES:
        sizes = {"N": 1, "K": count}
        shapes = {name: [sizes.get(str(axis), axis) for axis in axes] for name, axes in STEP_INPUTS.items()}
        specs = [tf.TensorSpec(s, tf.int64 if n == "token" else tf.float32, name=n) for n, s in shapes.items()]
        steps[f"decoder_step_{count}"] = tf.function(step).get_concrete_function(*specs)
    (directory / "step").write_bytes(converter("step", steps).convert())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
