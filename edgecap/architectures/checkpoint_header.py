"""What the header of a checkpoint says of its tensors, held against its dims before any of them is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from edgecap.architectures.defaults import preprocess_config
from edgecap.architectures.dims import CaptionerDims
from edgecap.architectures.registry import architecture
from edgecap.errors import CheckpointError, ConfigError, brief

MAX_HEADER_BYTES = 2**24  # a list of tensors, a configuration and some thousand words; ours have 150 kB
LENGTH_BYTES = 8  # in which a file says how long its header is
MODEL, TRAINING = "model.", "training."  # how the names of tensors begin

# As the format names them. A checkpoint may keep weights in half precision.
_FLOATS = ("F32", "F16", "BF16")
_WHOLE_NUMBERS = {torch.int64: "I64"}
_OF_TRAINING = (*_FLOATS, "F64", "I64", "U8")
# Optimizer, average and a head towards the teacher, beside the model of which they hold two copies and one.
_TRAINING_SHARE, _TRAINING_EXTRA = 8, 2**28
_BYTES = {"F64": 8, "I64": 8, "F32": 4, "F16": 2, "BF16": 2, "U8": 1}


class TensorHeader(NamedTuple):
    """Of one tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * _BYTES[self.dtype]


def headers(file: Any) -> dict[str, TensorHeader]:
    """Of every tensor of an open safetensors file, by name."""
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    return {name: TensorHeader(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}


def check_header_size(path: Path) -> None:
    """Raise ``CheckpointError`` for a header that would take more memory than any of ours, or is not whole."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if LENGTH_BYTES + length > path.stat().st_size:
        raise CheckpointError(path, "is torn or not a safetensors file: it ends before its header does")
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(path, f"has a header of {length >> 20:,} MB; at most {MAX_HEADER_BYTES >> 20} are read")


def expected_tensors(path: Path, kind: str, dims: CaptionerDims) -> dict[str, Tensor]:
    """The tensors of a model of an architecture and dims, without content. Raises ``CheckpointError``."""
    try:
        preprocess_config(dims)
        with torch.device("meta"):
            return architecture(kind).network(dims, 0.0).state_dict()
    except (ConfigError, TypeError, ValueError, LookupError, RuntimeError, OverflowError) as error:
        raise CheckpointError(path, f"has dims that no model can have: {brief(error)}") from error


def check_tensors(path: Path, found: Mapping[str, TensorHeader], kind: str, dims: CaptionerDims) -> None:
    """Raise ``CheckpointError`` for tensors that a checkpoint of such a model does not have, or lacks."""
    expected = expected_tensors(path, kind, dims)
    for name, tensor in expected.items():
        there = found.get(MODEL + name)
        if there is None:
            raise CheckpointError(path, f"lacks the tensor {name} of preset {dims.preset!r}")
        if there.shape != tensor.shape:
            wanted = tuple(tensor.shape)
            raise CheckpointError(path, f"tensor {name} has shape {there.shape}, preset and vocabulary want {wanted}")
        allowed = _FLOATS if tensor.is_floating_point() else (_WHOLE_NUMBERS[tensor.dtype],)
        _check_dtype(path, name, there, allowed)
    foreign = sorted(found.keys() - {MODEL + name for name in expected})
    beside = [name for name in foreign if not name.startswith(TRAINING)]
    if beside:
        name = beside[0].removeprefix(MODEL)
        raise CheckpointError(path, f"holds the tensor {name:.100}, which preset {dims.preset!r} does not have")
    for name in foreign:
        _check_dtype(path, name, found[name], _OF_TRAINING)
    most = _TRAINING_EXTRA + _TRAINING_SHARE * sum(4 * tensor.numel() for tensor in expected.values())
    if sum(found[name].bytes for name in foreign) > most:
        raise CheckpointError(path, f"has a training state of more than {most >> 20:,} MB, too much for its model")


def _check_dtype(path: Path, name: str, found: TensorHeader, allowed: tuple[str, ...]) -> None:
    if found.dtype not in allowed:
        raise CheckpointError(path, f"tensor {name:.100} is of type {found.dtype}, not {' or '.join(allowed)}")
