"""One step of the LSTM captioner with its tensors one by one, as the tests write loops over it."""

from __future__ import annotations

from torch import Tensor

from edgecap.architectures.network import CaptionNetwork


def lstm_step(
    model: CaptionNetwork, token: Tensor, h: Tensor, c: Tensor, features: Tensor, keys: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities (N, K, V), h and c (N, K, H), attention (N, K, L)."""
    step = model.step(token, {"h": h, "c": c}, {"features": features, "keys": keys})
    assert step.attention is not None
    return step.log_probs, step.state["h"], step.state["c"], step.attention
