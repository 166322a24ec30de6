"""From torch to simplified ONNX: the fp32 graphs that all others are made from."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import onnx
import onnxsim
import torch
from onnx import ModelProto
from onnxruntime import InferenceSession, SessionOptions
from torch import nn
from torch.export import Dim

from edgecap.architectures.graph_spec import GraphSpec
from edgecap.errors import ExportError, brief
from edgecap.runtime.bundle.manifest import SCHEMA_VERSION
from edgecap.runtime.engines.saturation import EXACT_PRODUCTS, RECORD


def export_graph(spec: GraphSpec, path: Path, opset: int) -> None:
    """Write a graph in fp32, with its dynamic axes. Raises ``ExportError``."""
    axes = {name: Dim(name) for names in spec.dynamic.values() for name in names}
    shapes = [dict(enumerate(axes[axis] for axis in spec.dynamic.get(name, ()))) for name in spec.inputs]
    try:
        with _quiet("torch.onnx"):
            program = torch.onnx.export(
                spec.module.eval(),
                tuple(spec.inputs.values()),
                input_names=list(spec.inputs),
                output_names=list(spec.outputs),
                opset_version=opset,
                dynamic_shapes=_by_parameter(spec.module, shapes) if axes else None,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter's errors share no base
        raise ExportError("torch.onnx", spec.role, brief(error)) from error
    assert program is not None  # no file name was given
    # Folding only: torch has fused BatchNorm and padding, and newer releases' fusions break up 3-D matrix products.
    try:
        simplified, valid = onnxsim.simplify(program.model_proto, perform_optimization=False)
    except RuntimeError as error:
        raise ExportError("onnxsim", spec.role, brief(error)) from error
    if not valid:
        raise ExportError("onnxsim", spec.role, "the simplified graph gives other outputs")
    save_graph(simplified, path, spec.role, "fp32")


def _by_parameter(module: nn.Module, shapes: list[dict[int, Any]]) -> tuple[Any, ...]:
    """As ``torch.export`` wants them: those of all that goes into a ``*parameter`` in a tuple of their own."""
    kinds = [parameter.kind for parameter in signature(module.forward).parameters.values()]
    if Parameter.VAR_POSITIONAL not in kinds:
        return tuple(shapes)
    named = kinds.index(Parameter.VAR_POSITIONAL)
    return (*shapes[:named], tuple(shapes[named:]))


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """A logger that says nothing below errors within the block, and no warnings of the exporter's own internals."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def save_graph(model: ModelProto, path: Path, role: str, precision: str, *, safe: bool = False) -> None:
    """Write a graph that says itself what it is, whatever becomes of its manifest.

    One that is ``safe`` has no INT8 products that can saturate (:mod:`edgecap.runtime.engines.saturation`).
    """
    properties = {"role": role, "precision": precision, "schema_version": str(SCHEMA_VERSION)}
    named = {f"edgecap.{name}": value for name, value in properties.items()}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, named | (dict([RECORD]) if safe else {}))
    onnx.checker.check_model(model)
    onnx.save_model(model, path)


def graph_session(model: ModelProto, outputs: Iterable[str]) -> InferenceSession:
    """A session that returns also these tensors of a graph. They must be of type float32."""
    shown = ModelProto()
    shown.CopyFrom(model)
    there = {tensor.name for tensor in (*model.graph.output, *model.graph.input)}
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in set(outputs) - there)
    options = SessionOptions()
    options.log_severity_level = 4  # only what is fatal
    options.add_session_config_entry(*EXACT_PRODUCTS)
    return InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
