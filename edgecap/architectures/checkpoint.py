"""Checkpoints: one safetensors file with the weights, and dims, vocabulary and config as JSON in its metadata.

No pickle: reading a checkpoint runs no code of its author.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgecap.architectures.checkpoint_header import (
    LENGTH_BYTES,
    MODEL,
    TRAINING,
    check_header_size,
    check_tensors,
    headers,
)
from edgecap.architectures.dims import CaptionerDims
from edgecap.architectures.network import CaptionNetwork
from edgecap.architectures.registry import architecture
from edgecap.errors import CheckpointError, ConfigError, brief
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.machine.atomic_write import write_atomically
from edgecap.runtime.wording import counted

FORMAT = "edgecap-checkpoint"
SCHEMA_VERSION = 1
FIRST_ARCHITECTURE = "lstm"  # of checkpoints that do not say


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds."""

    dims: CaptionerDims
    vocabulary: Vocabulary
    weights: dict[str, Tensor]  # of the network, float32
    config: dict[str, Any]  # of the training run
    metrics: dict[str, Any]  # of the validation that chose it
    training: dict[str, Any]  # position of the run: empty unless it can be resumed
    training_tensors: dict[str, Tensor]  # optimizer and random-number state
    architecture: str = FIRST_ARCHITECTURE

    def model(self, dropout: float = 0.0) -> CaptionNetwork:
        """A network with these weights, in evaluation mode."""
        model = architecture(self.architecture).network(self.dims, dropout)
        model.load_state_dict(self.weights)
        return model.eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, half: bool) -> None:
    """Write atomically: a save that is killed or fails leaves the file as it was. Raises ``CheckpointError``.

    ``half`` stores matrices as float16; vectors stay float32 (a BatchNorm variance may exceed float16's range).
    """
    tensors = {MODEL + name: _stored(tensor, half) for name, tensor in checkpoint.weights.items()}
    tensors |= {TRAINING + name: tensor.contiguous() for name, tensor in checkpoint.training_tensors.items()}
    document = {
        "schema_version": SCHEMA_VERSION,
        "architecture": checkpoint.architecture,
        "dims": checkpoint.dims.to_json(),
        "vocabulary": checkpoint.vocabulary.to_json(),
        "config": checkpoint.config,
        "metrics": checkpoint.metrics,
        "training": checkpoint.training,
    }
    try:
        with write_atomically(path) as partial:
            save_file(tensors, partial, {"format": FORMAT, "checkpoint": json.dumps(document)})
            _order_metadata(partial)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(path, f"cannot be written: {error}") from error


def _order_metadata(path: Path) -> None:
    """The library writes metadata in an order that chance decides; one checkpoint is to be the same bytes each time."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(LENGTH_BYTES)
        file.write(ordered.ljust(length))  # white space at its end belongs to the format


def _stored(tensor: Tensor, half: bool) -> Tensor:
    return (tensor.half() if half and tensor.is_floating_point() and tensor.ndim > 1 else tensor).contiguous()


def load_checkpoint(path: Path, *, preset: str | None = None) -> Checkpoint:
    """Read a checkpoint. Raises ``CheckpointError`` if it is missing, broken, or not of ``preset``."""
    if not path.is_file():
        there = path.exists() and not path.is_dir()
        raise CheckpointError(path, "is a pipe or device, no file" if there else "no such checkpoint file")
    try:
        check_header_size(path)
        with safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            document = _document(path, metadata)
            kind = document.get("architecture", FIRST_ARCHITECTURE)
            dims, vocabulary = _shape(path, kind, document, preset)
            check_tensors(path, headers(file), kind, dims)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(path, f"is torn or not a safetensors file: {error}") from error
    try:
        return Checkpoint(
            dims=dims,
            vocabulary=vocabulary,
            weights=_part(tensors, MODEL),
            config=dict(document["config"]),
            metrics=dict(document["metrics"]),
            training=dict(document["training"]),
            training_tensors=_part(tensors, TRAINING),
            architecture=kind,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(path, f"has broken metadata: {brief(error)}") from error


def _document(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The JSON of a checkpoint of this schema."""
    if metadata.get("format") != FORMAT:
        raise CheckpointError(path, "is a safetensors file, but not a checkpoint of edgecap")
    try:
        document: dict[str, Any] = json.loads(metadata["checkpoint"])
        schema = document["schema_version"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(path, f"has broken metadata: {brief(error)}") from error
    if type(schema) is int and schema > SCHEMA_VERSION:
        raise CheckpointError(path, f"was written by a newer edgecap (schema {schema}): upgrade")
    if schema != SCHEMA_VERSION:
        raise CheckpointError(path, f"has the unknown schema {schema!r:.60}")
    return document


def _shape(
    path: Path, kind: object, document: Mapping[str, Any], preset: str | None
) -> tuple[CaptionerDims, Vocabulary]:
    try:
        dims = architecture(str(kind)).read_dims(document["dims"])
        vocabulary = Vocabulary.from_json(document["vocabulary"])
    except ConfigError as error:
        raise CheckpointError(path, f"is of an {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(path, f"has broken metadata: {brief(error)}") from error
    if preset is not None and dims.preset != preset:
        raise CheckpointError(path, f"is of preset {dims.preset!r:.60}, not {preset!r}")
    if len(vocabulary) != dims.vocab_size:
        raise CheckpointError(path, f"has {counted(len(vocabulary), 'word')}, its dims say {dims.vocab_size!r:.60}")
    return dims, vocabulary


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    part = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if prefix == MODEL:
        return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in part.items()}
    return part
