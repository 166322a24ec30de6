"""What the manifest says of a graph: its inputs and outputs, and what an engine must know to run it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_litert.interpreter import Interpreter

from edgecap.runtime.bundle.entries import TensorSpec


def graph_interface(path: Path) -> dict[str, Any]:
    """``inputs``, ``outputs`` and, by the kind of graph, ``opset`` and ``ir_version`` or ``signatures``."""
    return _tflite_interface(path) if path.suffix == ".tflite" else _onnx_interface(path)


def _onnx_interface(path: Path) -> dict[str, Any]:
    model = onnx.load_model(path)
    return {
        "inputs": tuple(map(_onnx_spec, model.graph.input)),
        "outputs": tuple(map(_onnx_spec, model.graph.output)),
        "opset": next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx")),
        "ir_version": model.ir_version,
    }


def _onnx_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return TensorSpec(value.name, dtype, tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim))


def _tflite_interface(path: Path) -> dict[str, Any]:
    """Axes in which the signatures differ are called K: they are the hypotheses of a decoder step."""
    interpreter = Interpreter(model_path=str(path))
    signatures = tuple(interpreter.get_signature_list())
    runners = [interpreter.get_signature_runner(name) for name in signatures]
    return {
        "inputs": _tflite_specs([runner.get_input_details() for runner in runners]),
        "outputs": _tflite_specs([runner.get_output_details() for runner in runners]),
        "signatures": signatures,
    }


def _tflite_specs(by_signature: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name, np.dtype(details["dtype"]).name, _shape(signature[name]["shape"] for signature in by_signature)
        )
        for name, details in by_signature[0].items()
    )


def _shape(shapes: Iterable[Iterable[int]]) -> tuple[int | str, ...]:
    return tuple(int(sizes[0]) if len(set(sizes)) == 1 else "K" for sizes in zip(*shapes, strict=True))
