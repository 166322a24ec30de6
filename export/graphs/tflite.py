"""TensorFlow Lite graphs from the ONNX ones: conversion, half-precision storage, and what a file holds."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

from edgecap.errors import ExportError, MissingExtraError, brief
from edgecap.runtime.engines.litert_engine import ENCODE, STEP
from edgecap.runtime.engines.onnx_engine import ENCODER_OUTPUTS, STEP_INPUTS, STEP_OUTPUTS

_CONVERSION = Path(__file__).with_name("tflite_conversion.py")
_NEEDED = ("onnx2tf", "tensorflow")


def require_converter() -> None:
    """Raise ``MissingExtraError`` or ``ExportError`` when the libraries are absent that convert to TensorFlow Lite."""
    missing = [library for library in _NEEDED if find_spec(library) is None]
    if missing and sys.version_info >= (3, 12):
        problem = f"{missing[0]} is not installed, and edgecap[export] has it for Python 3.11 only: use that, or --onnx"
        raise ExportError("conversion to TFLite", "encoder", problem)
    if missing:
        raise MissingExtraError(missing[0], "export")


def convert_encoder(source: Path, target: Path, tensors: Iterable[NDArray[np.float32]] | None = None) -> None:
    """Convert an fp32 encoder; with calibration tensors (1, 3, S, S) all of it to INT8, from the image to the outputs.

    Raises ``ExportError``.
    """
    calibration = None
    if tensors is not None:
        calibration = np.concatenate([tensor.transpose(0, 2, 3, 1) for tensor in tensors])  # (N, S, S, 3)
    mode = "float" if tensors is None else "static"
    with _scratch_beside(target) as scratch:
        graph = Path(scratch) / "encoder.onnx"
        _pad_before_maxima(source, graph)
        _convert("encoder", {ENCODE: graph}, ENCODER_OUTPUTS, (), mode, target, calibration)


def _pad_before_maxima(source: Path, target: Path) -> None:
    """Write the graph with what its MaxPools pad padded before them.

    onnx2tf pads with the least float, and INT8 steps that reach so far have no other values. What a ReLU made is padded
    with zeros, anything else with its own edge: neither is ever above the maximum.
    """
    model = onnx.load_model(source)
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
    onnx.save_model(onnx.shape_inference.infer_shapes(model), target)


def _scratch_beside(target: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder on the disk of ``target``, which goes with the export's staging folder if this process is killed."""
    return tempfile.TemporaryDirectory(prefix="conversion-", dir=target.parent)


def convert_step(source: Path, target: Path, hypotheses: Iterable[int], *, dynamic: bool = False) -> None:
    """Convert an fp32 decoder step, with a signature for each number of ``hypotheses`` of one photo.

    ``dynamic`` stores weights as INT8, and quantizes what they are multiplied with as it comes. Raises ``ExportError``.
    """
    mode = "dynamic" if dynamic else "float"
    with _scratch_beside(target) as scratch:
        graphs = {f"{STEP}{count}": Path(scratch) / f"{count}.onnx" for count in sorted(set(hypotheses))}
        for (_, path), count in zip(graphs.items(), sorted(set(hypotheses)), strict=True):
            _fix_shapes(source, path, count)
        _convert("decoder_step", graphs, STEP_OUTPUTS, STEP_INPUTS, mode, target)


def _fix_shapes(source: Path, target: Path, hypotheses: int) -> None:
    model = onnx.load_model(source)
    make_dim_param_fixed(model.graph, "N", 1)
    make_dim_param_fixed(model.graph, "K", hypotheses)
    onnx.save_model(onnx.shape_inference.infer_shapes(model), target)


def _convert(
    role: str,
    graphs: dict[str, Path],
    outputs: Sequence[str],
    keep_shapes: Sequence[str],
    mode: str,
    target: Path,
    calibration: NDArray[np.float32] | None = None,
) -> None:
    request = {
        "graphs": {name: str(path.resolve()) for name, path in graphs.items()},
        "outputs": outputs,
        "keep_shapes": keep_shapes,
        "mode": mode,
        "target": str(target.resolve()),
        "parent": os.getpid(),
    }
    buffer = io.BytesIO()
    if calibration is not None:
        np.save(buffer, calibration)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    # -P: modules of this folder are not those that the libraries there may ask for.
    command = [sys.executable, "-P", str(_CONVERSION), json.dumps(request)]
    try:
        with _scratch_beside(target) as scratch:
            run = subprocess.run(command, input=buffer.getvalue(), capture_output=True, cwd=scratch, env=environment)
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
