"""Run as a program of its own: fp32 ONNX graphs become one TensorFlow Lite file, through onnx2tf and TensorFlow.

A process apart, because onnx2tf exits the one it runs in, looks for files in the working directory and writes to
stdout, and because TensorFlow writes to stderr from C++. It reads a request as JSON from its first argument, and
calibration tensors, if any, as one ``.npz`` from stdin; it prints ``{"stage", "problem"}`` when it fails.
Nothing of edgecap is imported here. See :mod:`edgecap.export.graphs.tflite` for the caller.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

# onnx2tf takes a photo from here for its dummy run of image graphs, and downloads it otherwise.
SAMPLE_PHOTOS = "calibration_image_sample_data_20x128x128x3_float32.npy"
SAMPLE_SHAPE = (20, 128, 128, 3)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # a terminal's, in onnx2tf's messages


def main(request: dict[str, Any]) -> dict[str, str] | None:
    """Convert; ``None`` on success, else the stage that failed and why.

    ``request``: ``graphs`` (paths by signature), ``outputs`` (tensor names, in the order of the graphs),
    ``keep_shapes`` (inputs whose axes stay as they are; others of four axes become channels-last), ``mode`` (float,
    static or dynamic), ``target`` and ``parent`` (the id of the process that asks).
    """
    import numpy as np

    np.save(SAMPLE_PHOTOS, np.random.default_rng(0).random(SAMPLE_SHAPE, np.float32))
    stage = "onnx2tf"
    try:
        models = {name: keras_model(Path(path), request["keep_shapes"]) for name, path in request["graphs"].items()}
        stage = "the TensorFlow Lite converter"
        content = converted(models, tuple(request["outputs"]), request["mode"])
    except (Exception, SystemExit) as error:  # neither library's errors share a base
        problem = f"it exited with {error.code}" if isinstance(error, SystemExit) else _COLOUR.sub("", str(error))
        node = node_at(error)
        return {"stage": stage, "problem": f"node {node}: {problem}" if node else problem}
    Path(request["target"]).write_bytes(content)
    return None


def node_at(error: BaseException) -> str | None:
    """The node that onnx2tf was at, which is a variable of its loop."""
    nodes = [frame.f_locals.get("graph_node") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((node.name for node in nodes if node is not None), None)


def keras_model(path: Path, keep_shapes: list[str]) -> Any:
    """One ONNX graph of fixed shapes as a Keras model, with the same inputs and outputs in the same order."""
    import onnx
    import onnx2tf

    return onnx2tf.convert(
        onnx_graph=onnx.load_model(path),
        keep_shape_absolutely_input_names=keep_shapes,
        disable_model_save=True,
        not_use_onnxsim=True,  # the graphs are simplified already
        non_verbose=True,
        verbosity="error",
    )


def converted(models: dict[str, Any], outputs: tuple[str, ...], mode: str) -> bytes:
    """The models as signatures of one file; equal constants are stored once."""
    import tensorflow as tf

    functions = {}
    for name, model in models.items():
        specs = {spec.name.partition(":")[0]: spec for spec in model.inputs}

        def call(*tensors: Any, model: Any = model) -> dict[str, Any]:
            made = model(list(tensors))
            return dict(zip(outputs, made if isinstance(made, list) else [made], strict=True))

        signature = [tf.TensorSpec(spec.shape, spec.dtype, name=key) for key, spec in specs.items()]
        functions[name] = tf.function(call).get_concrete_function(*signature)
    # The functions hold all constants; with the Keras models, these would be written once more, as JSON. What onnx2tf
    # made a variable, as it does of LayerNormalization's weights, must be held on to.
    holder = tf.Module()
    holder.held = [variable for model in models.values() for variable in model.variables]
    tf.saved_model.save(holder, "saved_model", signatures=functions)
    converter = tf.lite.TFLiteConverter.from_saved_model("saved_model", signature_keys=list(functions))
    if mode == "static":
        samples = np_from_stdin()
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            dict(zip(samples, values, strict=True)) for values in zip(*samples.values(), strict=True)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]  # no float operator in between
        converter.inference_input_type = converter.inference_output_type = tf.int8
    elif mode == "dynamic":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        # One scale per matrix: with one per channel, engines older than the format's version 12 refuse the graph.
        converter._experimental_disable_per_channel = True
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    content: bytes = converter.convert()
    return content


def np_from_stdin() -> dict[str, Any]:
    """The calibration tensors by input, (n, 1, ...) each."""
    import numpy as np

    return dict(np.load(io.BytesIO(sys.stdin.buffer.read())))


def die_with_parent(parent: int) -> None:
    """Have Linux kill this process with the export ``parent`` that started it, which may be killed itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        sys.exit(1)


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    die_with_parent(request["parent"])
    with contextlib.redirect_stdout(sys.stderr):
        failure = main(request)
    if failure:
        print(json.dumps(failure))
    sys.exit(bool(failure))
