"""The captioner of a convolutional encoder and an LSTM with attention."""

from __future__ import annotations

from torch import Tensor

from edgecap.architectures.lstm.decoder import Decoder
from edgecap.architectures.lstm.dims import ModelDims
from edgecap.architectures.lstm.encoder import Encoder
from edgecap.architectures.network import CaptionNetwork, Tensors, TorchStep


class CaptionModel(CaptionNetwork):
    """Memory is ``features`` and ``keys``; state is ``h`` and ``c``."""

    encoder: Encoder
    decoder: Decoder

    def __init__(self, dims: ModelDims, dropout: float = 0.0) -> None:
        super().__init__()
        self.dims: ModelDims = dims
        self.encoder = Encoder(dims)
        self.decoder = Decoder(dims, dropout)

    def begin(self, features: Tensor) -> tuple[Tensors, Tensors]:
        """Features (N, L, D) -> features, keys (N, L, A); h, c (N, H)."""
        keys, h, c = self.decoder.init_state(features)
        return {"features": features, "keys": keys}, {"h": h, "c": c}

    def step(self, token: Tensor, state: Tensors, memory: Tensors) -> TorchStep:
        """As :meth:`Decoder.step`."""
        return self.decoder.step(token, state, memory)

    def advance(self, token: Tensor, state: Tensors, memory: Tensors) -> tuple[Tensor, Tensors]:
        """As :meth:`Decoder.advance`: the words' matrix, the largest, is then taken once for all steps."""
        h, state, _ = self.decoder.advance(token, state, memory)
        return h, state

    def spoken(self, advanced: Tensor) -> Tensor:
        """As :meth:`Decoder.spoken`."""
        return self.decoder.spoken(advanced)
