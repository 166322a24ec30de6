"""The torch network as an engine: evaluation while training and parity use the runtime's one decode loop."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecap.architectures.network import CaptionNetwork, Tensors
from edgecap.runtime.engines.engine import Arrays, Encoded, FloatArray, IntArray, Step


class TorchEngine:
    """An ``Engine`` on a network in evaluation mode, on the device that holds it."""

    def __init__(self, network: CaptionNetwork, *, autocast: bool = False) -> None:
        self._network = network.eval()
        self._device = next(network.parameters()).device
        self._autocast = autocast

    @property
    def name(self) -> str:
        return f"torch {torch.__version__}"

    def encode(self, images: FloatArray) -> Encoded:
        return self.encode_images(torch.from_numpy(images))

    @torch.inference_mode()
    def encode_images(self, images: Tensor) -> Encoded:
        """As :meth:`encode`, of photos (N, 3, S, S) that are tensors already."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            features = self._network.encoder(images.to(self._device))  # (N, L, D)
        return self.encode_features(features)

    @torch.inference_mode()
    def encode_grid(self, grid: Tensor) -> Encoded:
        """Continue from the backbone's cached grid (N, L, C)."""
        return self.encode_features(self._network.encoder.projection(grid.to(self._device)))

    @torch.inference_mode()
    def encode_features(self, features: Tensor) -> Encoded:
        memory, state = self._network.begin(features.float())
        return Encoded(_arrays(memory), _arrays(state))

    @torch.inference_mode()
    def step(self, token: IntArray, state: Arrays, memory: Arrays) -> Step:
        step = self._network.step(self._tensor(token), self._tensors(state), self._tensors(memory))
        attention = None if step.attention is None else _array(step.attention)
        return Step(_array(step.log_probs), _arrays(step.state), attention)

    def _tensors(self, arrays: Arrays) -> Tensors:
        return {name: self._tensor(value) for name, value in arrays.items()}

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def _arrays(tensors: Tensors) -> Arrays:
    return {name: _array(tensor) for name, tensor in tensors.items()}


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return array
