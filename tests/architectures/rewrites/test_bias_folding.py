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
        engine = TorchEngine(model)
        encoded = engine.encode(images)
        state = {name: np.repeat(value[:, None], 3, axis=1) for name, value in encoded.state.items()}
        steps.append((encoded, engine.step(token, state, encoded.memory)))
    (encoded, step), (folded, folded_step) = steps
    bias = before["encoder.projection.0.bias"].numpy()
    np.testing.assert_allclose(folded.memory["features"] + bias, encoded.memory["features"], atol=1e-4)
    np.testing.assert_allclose(folded.memory["keys"], encoded.memory["keys"], atol=1e-4)
    for one, other in ((folded.state, encoded.state), (folded_step.state, step.state)):
        for name in ("h", "c"):
            np.testing.assert_allclose(one[name], other[name], atol=1e-4)
    np.testing.assert_allclose(folded_step.log_probs, step.log_probs, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in small_model.state_dict().items())
