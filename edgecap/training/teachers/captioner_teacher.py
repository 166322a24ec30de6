"""A trained captioner's encoder: of what a photo shows, it says what that captioner's decoder reads."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from edgecap.architectures.backbones.weights import network_key
from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.architectures.defaults import preprocess_config
from edgecap.training.machine.precision import resolved_precision
from edgecap.training.teachers.teacher import TeacherFeatures


class CaptionerTeacher:
    """The features (49, D) of a checkpoint's encoder, and their mean. Raises ``CheckpointError``."""

    def __init__(self, path: Path) -> None:
        checkpoint = load_checkpoint(path)
        self.name = f"captioner:{path}"
        self.preprocess = preprocess_config(checkpoint.dims)
        self.grid_dim = self.pooled_dim = checkpoint.dims.feature_dim
        model = checkpoint.model()
        self.vocabulary, self.decoder = checkpoint.vocabulary, model.decoder
        self._encoder = model.encoder
        self.key = network_key(self._encoder)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._bf16 = resolved_precision("auto", self._device).name == "bf16"
        self._encoder.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def embed(self, images: Tensor) -> TeacherFeatures:
        batch = images.to(self._device, memory_format=torch.channels_last)  # (N, 3, S, S)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            grid = self._encoder(batch).float()  # (N, 49, D)
        return TeacherFeatures(grid.cpu().numpy(), grid.mean(dim=1).cpu().numpy())
