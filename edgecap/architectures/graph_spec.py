"""A graph that an architecture has to be exported: what is traced, and how it may be compressed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from onnx import ModelProto
from torch import Tensor, nn


def unchanged(model: ModelProto) -> ModelProto:
    """The rewriting of a graph that needs none."""
    return model


@dataclass(frozen=True)
class GraphSpec:
    """One graph of an architecture, by its role in a set. Names of tensors are those of ``runtime.bundle.tasks``.

    ``samples`` says what its inputs are measured on: preprocessed photos, or what decoding them gives the step.
    ``activations`` says how INT8 quantizes what its weights are multiplied with: with ranges measured on the samples
    (static), or as it comes (dynamic). ``before_int8`` is an exact rewriting, on the samples, of the fp32 graph that is
    quantized.
    """

    role: str
    module: nn.Module  # forward(*inputs) -> outputs, in the order of the names
    inputs: Mapping[str, Tensor]  # examples; the sizes of dynamic axes are any but 1, which would be constants
    outputs: tuple[str, ...]
    dynamic: Mapping[str, tuple[str, ...]]  # of inputs: their first axes by name, such as ("N", "K")
    samples: Literal["photos", "decoding"]
    activations: Literal["static", "dynamic"]
    before_int8: Callable[[ModelProto], ModelProto] = unchanged
