"""The torch model as a ``runtime`` back end: evaluation while training and parity use the one decode loop."""

from __future__ import annotations

import torch
from torch import Tensor

from edgecap.architectures.lstm.network import CaptionModel
from edgecap.runtime.engines.engine import Encoded, FloatArray, IntArray, Step


def _numpy(tensor: Tensor) -> FloatArray:
    return tensor.float().cpu().numpy()


class TorchBackend:
    """An ``Engine`` on a model in evaluation mode, on the device that holds it."""

    def __init__(self, model: CaptionModel, *, autocast: bool = False) -> None:
        self._model = model.eval()
        self._device = next(model.parameters()).device
        self._autocast = autocast

    @property
    def name(self) -> str:
        return f"torch {torch.__version__}"

    @torch.inference_mode()
    def encode(self, images: FloatArray) -> Encoded:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            features = self._model.encoder(torch.from_numpy(images).to(self._device))  # (N, L, D)
        return self.encode_features(features)

    @torch.inference_mode()
    def encode_grid(self, grid: Tensor) -> Encoded:
        """Continue from the backbone's cached grid (N, L, C)."""
        return self.encode_features(self._model.encoder.projection(grid.to(self._device)))

    @torch.inference_mode()
    def encode_features(self, features: Tensor) -> Encoded:
        features = features.float()
        keys, h0, c0 = self._model.decoder.init_state(features)
        return Encoded(*(_numpy(tensor) for tensor in (features, keys, h0, c0)))

    @torch.inference_mode()
    def step(self, token: IntArray, h: FloatArray, c: FloatArray, features: FloatArray, keys: FloatArray) -> Step:
        inputs = (torch.from_numpy(array).to(self._device) for array in (token, h, c, features, keys))
        return Step(*(_numpy(tensor) for tensor in self._model.decoder.step(*inputs)))
