"""The LSTM captioner's two graphs."""

from __future__ import annotations

import copy

import torch
from onnx import ModelProto
from torch import Tensor, nn

from edgecap.architectures.architecture import Photos
from edgecap.architectures.backbones.shufflenet import ShuffleNetV2
from edgecap.architectures.graph_spec import GraphSpec, unchanged
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.lstm.rewrites.channel_alignment import align_channels
from edgecap.architectures.lstm.rewrites.scale_sharing import capped, share_scales
from edgecap.architectures.lstm.rewrites.shuffle_folding import fold_shuffles

MEMORY = ("memory.features", "memory.keys")


class EncoderGraph(nn.Module):
    """Once per photo: image (1, 3, S, S) -> features (1, L, D), keys (1, L, A), h (1, H), c (1, H)."""

    def __init__(self, model: CaptionModel, *, folded: bool = True) -> None:
        super().__init__()
        self.encoder, self.decoder = copy.deepcopy(model.encoder), model.decoder
        backbone = self.encoder.backbone
        self.folds = folded and isinstance(backbone, ShuffleNetV2)
        if folded and isinstance(backbone, ShuffleNetV2):
            self.encoder.backbone = align_channels(fold_shuffles(backbone))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.encoder(image)  # (1, L, D)
        return features, *self.decoder.init_state(features)


class StepGraph(nn.Module):
    """Once per word, for K hypotheses of each of N photos: the decoder's ``step``."""

    def __init__(self, model: CaptionModel) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(self, token: Tensor, h: Tensor, c: Tensor, features: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
        step = self.decoder.step(token, {"h": h, "c": c}, {"features": features, "keys": keys})
        assert step.attention is not None
        return step.log_probs, step.state["h"], step.state["c"], step.attention


def encoder_spec(model: CaptionModel, photos: Photos, *, folded: bool = True) -> GraphSpec:
    """The encoder, with its shuffles ``folded`` away or as they are.

    ``photos`` are what branches get their shared scales from.
    """
    graph = EncoderGraph(model, folded=folded)
    before_int8 = unchanged
    if graph.folds:
        before_int8 = _capped if share_scales(graph.encoder.backbone, photos()) else unchanged
    return GraphSpec(
        role="encoder",
        module=graph,
        inputs={"image": torch.zeros(1, 3, model.dims.image_size, model.dims.image_size)},
        outputs=(*MEMORY, "state.h", "state.c"),
        dynamic={},
        samples="photos",
        activations="static",
        before_int8=before_int8,
    )


def _capped(model: ModelProto) -> ModelProto:
    return capped(model)


def step_spec(model: CaptionModel) -> GraphSpec:
    """The decoder step, with the photo axis N and the hypothesis axis K dynamic."""
    dims = model.dims
    photos, count = 2, 3
    # Each input is a tensor of its own: torch.export takes one tensor given twice for one input.
    inputs = {
        "token": torch.zeros(photos, count, dtype=torch.int64),
        "state.h": torch.zeros(photos, count, dims.hidden_dim),
        "state.c": torch.zeros(photos, count, dims.hidden_dim),
        "memory.features": torch.zeros(photos, dims.locations, dims.feature_dim),
        "memory.keys": torch.zeros(photos, dims.locations, dims.attention_dim),
    }
    return GraphSpec(
        role="decoder_step",
        module=StepGraph(model),
        inputs=inputs,
        outputs=("log_probs", "next.h", "next.c", "attention"),
        dynamic={name: ("N",) if name in MEMORY else ("N", "K") for name in inputs},
        samples="decoding",
        activations="dynamic",
    )
