"""Features without the bias of their projection: the same captions from fewer operations.

What reads the features is linear in them, and attention weights sum to one, so that the bias moves into the biases of
the readers. Else TensorFlow Lite's converter moves it into the keys' on its own, and computes the projection twice.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from edgecap.architectures.lstm.network import CaptionModel


def fold_projection_bias(model: CaptionModel) -> CaptionModel:
    """A copy of the model whose last projection, if it has one, is without bias.

    Its log-probabilities are the model's, up to rounding.
    """
    folded = copy.deepcopy(model).eval()
    if not len(folded.encoder.projection):
        return folded
    projection, decoder = folded.encoder.projection[-1], folded.decoder
    assert isinstance(projection, nn.Linear)
    bias = projection.bias.detach()  # (D,)
    projection.register_parameter("bias", None)
    with torch.no_grad():
        for reader in (decoder.key, decoder.init_h, decoder.init_c):
            reader.bias.add_(reader.weight @ bias)
        # The context is a mean of features by weights that sum to 1; its product shares the bias of the gates.
        decoder.gates_embedding.bias.add_(decoder.gates_context.weight @ bias)
    return folded
