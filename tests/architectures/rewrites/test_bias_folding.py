"""Moving the projection's bias into what reads the features changes nothing that is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.lstm.rewrites.bias_folding import fold_projection_bias
from edgecap.architectures.torch_engine import TorchEngine

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_a_folded_model_gives_the_same_words(small_model: CaptionModel) -> None:
    with torch.no_grad():
        for parameter in small_model.decoder.parameters():
            parameter.normal_()
        small_model.encoder.projection[-1].bias.normal_(std=3)  # type: ignore[union-attr]
    before = {name: tensor.clone() for name, tensor in small_model.state_dict().items()}
    images = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    token = np.array([[1, 4, 7], [2, 0, 5]])
    steps = []
    for model in (small_model, fold_projection_bias(small_model)):
        backend = TorchEngine(model)
        encoded = backend.encode(images)
        h, c = (np.repeat(state[:, None], 3, axis=1) for state in (encoded.h0, encoded.c0))
        steps.append((encoded, backend.step(token, h, c, encoded.features, encoded.keys)))
    (encoded, step), (folded, folded_step) = steps
    bias = before["encoder.projection.0.bias"].numpy()
    np.testing.assert_allclose(folded.features + bias, encoded.features, atol=1e-4)
    for name in ("keys", "h0", "c0"):
        np.testing.assert_allclose(getattr(folded, name), getattr(encoded, name), atol=1e-4)
    for name, tensor in vars(step).items():
        np.testing.assert_allclose(getattr(folded_step, name), tensor, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in small_model.state_dict().items())
