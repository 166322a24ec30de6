"""Checkpoints: one safetensors file with the weights, and dims, vocabulary and config as JSON in its metadata.

No pickle: reading a checkpoint runs no code of its author.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgecap.errors import CheckpointError, ConfigError
from edgecap.model.captioner import CaptionModel
from edgecap.model.dims import ModelDims
from edgecap.runtime.vocabulary import Vocabulary

FORMAT = "edgecap-checkpoint"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds."""

    dims: ModelDims
    vocabulary: Vocabulary
    weights: dict[str, Tensor]  # of CaptionModel, float32
    config: dict[str, Any]  # of the training run
    metrics: dict[str, Any]  # of the validation that chose it
    training: dict[str, Any]  # position of the run: empty unless it can be resumed
    training_tensors: dict[str, Tensor]  # optimizer and random-number state

    def model(self, dropout: float = 0.0) -> CaptionModel:
        """A model with these weights, in evaluation mode."""
        model = CaptionModel(self.dims, dropout)
        model.load_state_dict(self.weights)
        return model.eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, half: bool) -> None:
    """Write atomically: a save that is killed or fails leaves the file as it was. Raises ``CheckpointError``.

    ``half`` stores matrices as float16; vectors stay float32 (a BatchNorm variance may exceed float16's range).
    """
    tensors = {f"model.{name}": _stored(tensor, half) for name, tensor in checkpoint.weights.items()}
    tensors |= {f"training.{name}": tensor.contiguous() for name, tensor in checkpoint.training_tensors.items()}
    document = {
        "schema_version": SCHEMA_VERSION,
        "dims": checkpoint.dims.to_json(),
        "vocabulary": checkpoint.vocabulary.to_json(),
        "config": checkpoint.config,
        "metrics": checkpoint.metrics,
        "training": checkpoint.training,
    }
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(tensors, partial, {"format": FORMAT, "checkpoint": json.dumps(document)})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(path, f"cannot be written: {error}") from error


def _stored(tensor: Tensor, half: bool) -> Tensor:
    return (tensor.half() if half and tensor.is_floating_point() and tensor.ndim > 1 else tensor).contiguous()


def load_checkpoint(path: Path, *, preset: str | None = None) -> Checkpoint:
    """Read a checkpoint. Raises ``CheckpointError`` if it is missing, broken, or not of ``preset``."""
    if not path.is_file():
        raise CheckpointError(path, "no such checkpoint file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(path, f"is torn or not a safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(path, "is a safetensors file, but not a checkpoint of edgecap")
    try:
        document = json.loads(metadata["checkpoint"])
        schema = document["schema_version"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(path, f"has broken metadata: {error}") from error
    if type(schema) is int and schema > SCHEMA_VERSION:
        raise CheckpointError(path, f"was written by a newer edgecap (schema {schema}): upgrade")
    if schema != SCHEMA_VERSION:
        raise CheckpointError(path, f"has the unknown schema {schema!r}")
    try:
        checkpoint = Checkpoint(
            dims=ModelDims.from_json(document["dims"]),
            vocabulary=Vocabulary.from_json(document["vocabulary"]),
            weights=_part(tensors, "model."),
            config=dict(document["config"]),
            metrics=dict(document["metrics"]),
            training=dict(document["training"]),
            training_tensors=_part(tensors, "training."),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(path, f"has broken metadata: {error}") from error
    if preset is not None and checkpoint.dims.preset != preset:
        raise CheckpointError(path, f"is of preset {checkpoint.dims.preset!r}, not {preset!r}")
    _check_weights(path, checkpoint)
    return checkpoint


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    part = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if prefix == "model.":
        return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in part.items()}
    return part


def _check_weights(path: Path, checkpoint: Checkpoint) -> None:
    dims = checkpoint.dims
    if len(checkpoint.vocabulary) != dims.vocab_size:
        raise CheckpointError(path, f"has {len(checkpoint.vocabulary)} words, its dims say {dims.vocab_size}")
    try:
        with torch.device("meta"):
            expected = CaptionModel(dims).state_dict()
    except (ConfigError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(path, f"has dims that no model can have: {error}") from error
    for name, tensor in expected.items():
        if name not in checkpoint.weights:
            raise CheckpointError(path, f"lacks the tensor {name} of preset {dims.preset!r}")
        if checkpoint.weights[name].shape != tensor.shape:
            found, wanted = tuple(checkpoint.weights[name].shape), tuple(tensor.shape)
            raise CheckpointError(path, f"tensor {name} has shape {found}, preset and vocabulary want {wanted}")
    foreign = sorted(checkpoint.weights.keys() - expected.keys())
    if foreign:
        raise CheckpointError(path, f"holds the tensor {foreign[0]}, which preset {dims.preset!r} does not have")
