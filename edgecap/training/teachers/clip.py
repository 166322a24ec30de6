"""CLIP's image tower (Radford et al. 2021, arXiv:2103.00020), through ``transformers``: by name or from a folder."""

from __future__ import annotations

from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from edgecap.architectures.backbones.weights import network_key
from edgecap.architectures.dims import STRIDE
from edgecap.errors import CheckpointError, MissingExtraError, brief
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.training.teachers.teacher import TeacherFeatures

SIZE = 224
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of openai/CLIP


class ClipTeacher:
    """The patch tokens of the last layer, normalised as the pooled one is, and the projected image embedding.

    It must have a patch for each location of the student: 7 x 7, as ViT-B/32 at 224 pixels has.
    """

    def __init__(self, source: str) -> None:
        try:
            from transformers import CLIPVisionModelWithProjection
        except ImportError:
            raise MissingExtraError("transformers", "clip") from None
        try:
            loaded: Any = CLIPVisionModelWithProjection.from_pretrained(source, output_loading_info=True)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(source, f"is no CLIP that transformers can load: {brief(error)}") from error
        network, found = loaded
        if lacking := found["missing_keys"]:
            raise CheckpointError(source, f"is no CLIP that transformers can load: it lacks {min(lacking)}")
        self._network: Any = network.eval()
        config = self._network.config
        if (config.image_size, config.patch_size) != (SIZE, STRIDE):
            problem = f"sees {config.image_size} pixels in patches of {config.patch_size}, not {SIZE} in {STRIDE}"
            raise CheckpointError(source, problem)
        self.name = f"clip:{source}"
        self.preprocess = PreprocessConfig(MEAN, STD, filter="bicubic")
        self.grid_dim, self.pooled_dim = config.hidden_size, config.projection_dim
        self.key = network_key(self._network)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network.to(self._device)

    @torch.inference_mode()
    def embed(self, images: Tensor) -> TeacherFeatures:
        output = self._network(pixel_values=images.to(self._device))
        tokens = self._network.vision_model.post_layernorm(output.last_hidden_state[:, 1:])  # (N, 49, D)
        return TeacherFeatures(tokens.float().cpu().numpy(), output.image_embeds.float().cpu().numpy())
