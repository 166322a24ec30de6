"""TensorFlow Lite graphs from the ONNX ones: conversion, half-precision storage, and what a file holds."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

from edgecap.errors import ExportError, MissingExtraError, brief
from edgecap.export.compress.layer_inputs import Feeds
from edgecap.runtime.bundle.tasks import IMAGE

_CONVERSION = Path(__file__).with_name("tflite_conversion.py")
Mode = Literal["float", "static", "dynamic"]

_NEEDED = ("onnx2tf", "tensorflow")


def require_converter() -> None:
    """Raise ``MissingExtraError`` or ``ExportError`` when the libraries are absent that convert to TensorFlow Lite."""
    missing = [library for library in _NEEDED if find_spec(library) is None]
    if missing and sys.version_info >= (3, 12):
        problem = f"{missing[0]} is not installed, and edgecap[export] has it for Python 3.11 only: use that, or --onnx"
        raise ExportError("conversion to TFLite", "encoder", problem)
    if missing:
        raise MissingExtraError(missing[0], "export")


def convert(
    source: Path, target: Path, role: str, hypotheses: Iterable[int], mode: Mode, samples: Iterable[Feeds] = ()
) -> None:
    """Convert an fp32 ONNX graph to TensorFlow Lite. Raises ``ExportError``.

    A graph with dynamic axes gets a signature for each number of ``hypotheses`` of one photo, called by role and
    number. Mode ``static`` makes all of it INT8, inputs and outputs too, with ranges measured on ``samples`` of its
    inputs; ``dynamic`` stores weights as INT8, and quantizes what they are multiplied with as it comes.
    """
    model = onnx.load_model(source)
    with _scratch_beside(target) as scratch:
        fixed = {role: Path(scratch) / "graph.onnx"}
        if any(axis.dim_param for tensor in model.graph.input for axis in tensor.type.tensor_type.shape.dim):
            fixed = {f"{role}_{count}": Path(scratch) / f"{count}.onnx" for count in sorted(set(hypotheses))}
        for name, path in fixed.items():
            onnx.save_model(_prepared(source, name.removeprefix(f"{role}_")), path)
        request = {
            "graphs": {name: str(path.resolve()) for name, path in fixed.items()},
            "outputs": [tensor.name for tensor in model.graph.output],
            "keep_shapes": [tensor.name for tensor in model.graph.input if tensor.name != IMAGE],
            "mode": mode,
            "target": str(target.resolve()),
            "parent": os.getpid(),
        }
        _run(role, request, target, _channels_last(samples) if mode == "static" else None)


def _channels_last(samples: Iterable[Feeds]) -> bytes:
    """The samples as ``.npz``, each input (n, ...); photos as TensorFlow has them."""
    inputs: dict[str, list[NDArray[Any]]] = {}
    for feeds in samples:
        for name, value in feeds.items():
            inputs.setdefault(name, []).append(value.transpose(0, 2, 3, 1) if name == IMAGE else value)
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.stack(values) for name, values in inputs.items()})
    return buffer.getvalue()


def _prepared(source: Path, hypotheses: str) -> ModelProto:
    """The graph with fixed shapes, of one photo, and without padded MaxPools."""
    model = onnx.load_model(source)
    if hypotheses.isdigit():
        make_dim_param_fixed(model.graph, "N", 1)
        make_dim_param_fixed(model.graph, "K", int(hypotheses))
    _pad_before_maxima(model)
    return onnx.shape_inference.infer_shapes(model)


def _pad_before_maxima(model: ModelProto) -> None:
    """Pad what the graph's MaxPools pad before them.

    onnx2tf pads with the least float, and INT8 steps that reach so far have no other values. What a ReLU made is padded
    with zeros, anything else with its own edge: neither is ever above the maximum.
    """
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    nodes = []
    for node in model.graph.node:
        pads = next((attribute for attribute in node.attribute if attribute.name == "pads"), None)
        if node.op_type == "MaxPool" and pads is not None and any(pads.ints):
            image, padded, amounts = node.input[0], f"{node.input[0]}_padded", f"{node.input[0]}_pads"
            top, left, bottom, right = pads.ints
            values = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
            model.graph.initializer.append(numpy_helper.from_array(values, amounts))
            mode = "constant" if makers.get(image) == "Relu" else "edge"
            nodes.append(onnx.helper.make_node("Pad", [image, amounts], [padded], f"{node.name}_pad", mode=mode))
            node.input[0] = padded
            pads.ints[:] = [0, 0, 0, 0]
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _scratch_beside(target: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder on the disk of ``target``, which goes with the export's staging folder if this process is killed."""
    return tempfile.TemporaryDirectory(prefix="conversion-", dir=target.parent)


def _run(role: str, request: dict[str, Any], target: Path, calibration: bytes | None) -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    # -P: modules of this folder are not those that the libraries there may ask for.
    command = [sys.executable, "-P", str(_CONVERSION), json.dumps(request)]
    try:
        with _scratch_beside(target) as scratch:
            run = subprocess.run(command, input=calibration or b"", capture_output=True, cwd=scratch, env=environment)
    except OSError as error:
        raise ExportError("onnx2tf", role, f"its process cannot be started: {error.strerror}") from error
    if run.returncode:
        raise _failure(role, run)


def _failure(role: str, run: subprocess.CompletedProcess[bytes]) -> ExportError:
    if run.returncode < 0:
        return ExportError("conversion to TFLite", role, f"stopped by {signal.Signals(-run.returncode).name}")
    try:
        told = json.loads(run.stdout)
        return ExportError(told["stage"], role, brief(ValueError(told["problem"])))
    except (ValueError, KeyError):
        lines = run.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        return ExportError("conversion to TFLite", role, brief(ValueError(lines[-1])))
