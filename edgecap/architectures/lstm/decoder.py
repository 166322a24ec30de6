"""The decoder: additive attention over the locations and an LSTM, one word a step.

Attention: Bahdanau et al. 2015 (arXiv:1409.0473); its use on image locations: Xu et al. 2015 (arXiv:1502.03044).
The LSTM cell is written as matrix products and elementwise gates, because ``LSTM`` operators turn vendor-only when
they are quantized and matrix products quantize everywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgecap.architectures.lstm.dims import ModelDims
from edgecap.architectures.network import Tensors, TorchStep


class TiedOutput(nn.Module):
    """The output layer that shares its matrix with the embedding (Press and Wolf 2017, arXiv:1608.05859)."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self._embedding = [embedding]  # in a list: its parameters are not listed twice
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))

    def forward(self, h: Tensor) -> Tensor:
        """h (.., H) -> logits (.., V)."""
        return nn.functional.linear(h, self._embedding[0].weight, self.bias)


class Decoder(nn.Module):
    """Axes: N photos, K captions of each photo (hypotheses), L locations, D feature channels, A attention
    channels, H hidden units, V words."""

    def __init__(self, dims: ModelDims, dropout: float = 0.0) -> None:
        super().__init__()
        hidden, gates = dims.hidden_dim, 4 * dims.hidden_dim
        self.init_h = nn.Linear(dims.feature_dim, hidden)
        self.init_c = nn.Linear(dims.feature_dim, hidden)
        self.key = nn.Linear(dims.feature_dim, dims.attention_dim)
        self.query = nn.Linear(hidden, dims.attention_dim, bias=False)
        self.energy = nn.Linear(dims.attention_dim, 1, bias=False)
        self.embedding = nn.Embedding(dims.vocab_size, dims.embedding_dim)
        # Three products rather than one over their concatenation: each input keeps a quantization scale of its own.
        self.gates_embedding = nn.Linear(dims.embedding_dim, gates)
        self.gates_context = nn.Linear(dims.feature_dim, gates, bias=False)
        self.gates_hidden = nn.Linear(hidden, gates, bias=False)
        self.output = TiedOutput(self.embedding) if dims.tied else nn.Linear(hidden, dims.vocab_size)
        self.dropout = nn.Dropout(dropout)
        self._reset_parameters(hidden)

    def _reset_parameters(self, hidden: int) -> None:
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.orthogonal_(self.gates_hidden.weight)
        nn.init.zeros_(self.gates_embedding.bias)
        # Remember at first: Jozefowicz et al. 2015, "An empirical exploration of recurrent network architectures".
        nn.init.ones_(self.gates_embedding.bias[hidden : 2 * hidden])

    def init_state(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Once per photo: features (N, L, D) -> keys (N, L, A), h0 (N, H), c0 (N, H)."""
        mean = features.mean(dim=1)  # (N, D)
        return self.key(features), torch.tanh(self.init_h(mean)), torch.tanh(self.init_c(mean))

    def attend(self, h: Tensor, features: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Where to look: h (N, K, H) -> context (N, K, D), alpha (N, K, L)."""
        query = self.query(h)[:, :, None, :]  # (N, K, 1, A)
        energy = self.energy(torch.tanh(keys[:, None] + query))[..., 0]  # (N, K, L)
        alpha = energy.softmax(dim=-1)  # (N, K, L)
        return alpha @ features, alpha  # (N, K, D)

    def step(self, token: Tensor, state: Tensors, memory: Tensors) -> TorchStep:
        """One word for K hypotheses of N photos; the same code trains, is exported and is compared with the export.

        token (N, K) int64; state: h, c (N, K, H); memory: features (N, L, D), keys (N, L, A)
        """
        h, state, alpha = self.advance(token, state, memory)
        return TorchStep(self.spoken(h), state, alpha)

    def advance(self, token: Tensor, state: Tensors, memory: Tensors) -> tuple[Tensor, Tensors, Tensor]:
        """What of it the next step waits for: h (N, K, H), the next state, alpha (N, K, L)."""
        h, c = state["h"], state["c"]
        context, alpha = self.attend(h, memory["features"], memory["keys"])  # (N, K, D), (N, K, L)
        embedded = self.dropout(self.embedding(token))  # (N, K, E)
        gates = self.gates_embedding(embedded) + self.gates_context(context) + self.gates_hidden(h)  # (N, K, 4H)
        in_gate, forget_gate, cell, out_gate = gates.chunk(4, dim=-1)  # (N, K, H) each
        c = torch.sigmoid(forget_gate) * c + torch.sigmoid(in_gate) * torch.tanh(cell)
        h = torch.sigmoid(out_gate) * torch.tanh(c)
        return h, {"h": h, "c": c}, alpha

    def spoken(self, h: Tensor) -> Tensor:
        """h (.., H) -> log-probabilities (.., V), float32."""
        return self.output(self.dropout(h)).float().log_softmax(dim=-1)  # type: ignore[no-any-return]
