"""A tiny second architecture: it shares no layer with the first, and nothing of the project knows it.

Its encoder concatenates two branches, and a class token with the map; what a ReLU makes there is larger than 6. Its
decoder is a transformer whose cache has a fixed length, with a position in its state, and which shows no attention.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from second_dims import SecondDims
from torch import Tensor, nn

from edgecap.architectures.architecture import Architecture, Photos
from edgecap.architectures.dims import CaptionerDims
from edgecap.architectures.graph_spec import GraphSpec
from edgecap.architectures.network import CaptionNetwork, PhotoEncoder, Tensors, TorchStep


class Branches(nn.Module):
    """Images (B, 3, S, S) -> (B, 2 C, S / 16, S / 16)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 5, stride=4, padding=2)
        self.fine = nn.Conv2d(channels, channels, 3, stride=4, padding=1)
        self.coarse = nn.Conv2d(channels, channels, 7, stride=4, padding=3)
        self.out_channels = 2 * channels

    def forward(self, images: Tensor) -> Tensor:
        stem = torch.relu(10 * self.stem(images))
        return torch.cat([torch.relu(self.fine(stem)), torch.relu(self.coarse(stem))], dim=1)


class SecondEncoder(PhotoEncoder):
    """Photos -> features (B, L, D), of which the first is the class token's."""

    def __init__(self, dims: SecondDims) -> None:
        super().__init__()
        self.backbone = Branches(dims.channels)
        self.token = nn.Parameter(torch.randn(1, 1, 2 * dims.channels))
        self.projection = nn.Linear(2 * dims.channels, dims.feature_dim)

    def grid(self, images: Tensor) -> Tensor:
        found = self.backbone(images).flatten(2).transpose(1, 2)  # (B, L - 1, C)
        return torch.cat([self.token.expand(len(found), -1, -1), found], dim=1)  # (B, L, C)


class Layer(nn.Module):
    """Attention to the words so far, attention to the photo, and two products."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.photo_query, self.photo_out = (nn.Linear(width, width) for _ in range(2))
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, here: Tensor, visible: Tensor, features: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (N, K, D); keys, values (N, K, T, D); here, visible (N, K, T); features (N, L, D)."""
        scale = 1 / math.sqrt(x.shape[-1])
        read = self.norms[0](x)
        keys = keys + here[..., None] * (self.key(read)[:, :, None] - keys)
        values = values + here[..., None] * (self.value(read)[:, :, None] - values)
        energy = (keys * self.query(read)[:, :, None]).sum(-1) * scale - 1e4 * (1 - visible)  # (N, K, T)
        x = x + (energy.softmax(-1)[..., None] * values).sum(2)
        seen = (self.photo_query(self.norms[1](x)) @ features.transpose(1, 2) * scale).softmax(-1)  # (N, K, L)
        x = x + self.photo_out(seen @ features)
        return x + self.outer(torch.relu(self.inner(self.norms[2](x)))), keys, values


class SecondDecoder(nn.Module):
    """Words one by one."""

    def __init__(self, dims: SecondDims) -> None:
        super().__init__()
        self.dims = dims
        self.embedding = nn.Embedding(dims.vocab_size, dims.feature_dim)
        self.places = nn.Embedding(dims.length, dims.feature_dim)
        self.layers = nn.ModuleList(Layer(dims.feature_dim) for _ in range(dims.layers))
        self.output = nn.Linear(dims.feature_dim, dims.vocab_size)

    def step(self, token: Tensor, state: Tensors, memory: Tensors) -> TorchStep:
        """As the network's."""
        position = state["position"]  # (N, K)
        steps = torch.arange(self.dims.length, device=token.device)  # (T,)
        here = (steps == position[..., None]).float()  # (N, K, T)
        visible = (steps <= position[..., None]).float()
        x = self.embedding(token) + self.places(position)  # (N, K, D)
        following: dict[str, Tensor] = {"position": position + 1}
        for number, layer in enumerate(self.layers):
            kept = state[f"keys{number}"], state[f"values{number}"]
            x, keys, values = layer(x, *kept, here, visible, memory["features"])
            following |= {f"keys{number}": keys, f"values{number}": values}
        return TorchStep(self.output(x).float().log_softmax(-1), following, None)


class SecondNetwork(CaptionNetwork):
    """The whole captioner."""

    def __init__(self, dims: SecondDims) -> None:
        super().__init__()
        self.dims: SecondDims = dims
        self.encoder = SecondEncoder(dims)
        self.decoder: SecondDecoder = SecondDecoder(dims)

    def begin(self, features: Tensor) -> tuple[Tensors, Tensors]:
        """Nothing is in the cache yet, and the first word stands at place 0."""
        photos, dims = len(features), self.dims
        empty = features.new_zeros(photos, dims.length, dims.feature_dim)
        state = {f"{kind}{n}": empty for kind in ("keys", "values") for n in range(dims.layers)}
        position = torch.zeros(photos, dtype=torch.int64, device=features.device)
        return {"features": features}, {"position": position, **state}

    def step(self, token: Tensor, state: Tensors, memory: Tensors) -> TorchStep:
        return self.decoder.step(token, state, memory)


class EncoderGraph(nn.Module):
    """Only the memory: a first state that is absent begins as zeros."""

    def __init__(self, network: SecondNetwork) -> None:
        super().__init__()
        self.encoder = network.encoder

    def forward(self, image: Tensor) -> Tensor:
        return self.encoder(image)  # type: ignore[no-any-return]


class StepGraph(nn.Module):
    """The step with its tensors one by one."""

    def __init__(self, network: SecondNetwork, names: list[str]) -> None:
        super().__init__()
        self.decoder, self.names = network.decoder, names

    def forward(self, token: Tensor, features: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        step = self.decoder.step(token, dict(zip(self.names, state, strict=True)), {"features": features})
        return step.log_probs, *(step.state[name] for name in self.names)


def _graphs(network: CaptionNetwork, photos: Photos) -> list[GraphSpec]:
    model = cast(SecondNetwork, network)
    dims, size = model.dims, model.dims.image_size
    names = ["position", *(f"{kind}{n}" for kind in ("keys", "values") for n in range(dims.layers))]
    state = {
        f"state.{name}": torch.zeros(2, 3, dtype=torch.int64)
        if name == "position"
        else torch.zeros(2, 3, dims.length, dims.feature_dim)
        for name in names
    }
    features = torch.zeros(2, dims.locations, dims.feature_dim)
    inputs = {"token": torch.zeros(2, 3, dtype=torch.int64), "memory.features": features, **state}
    return [
        GraphSpec(
            role="encoder",
            module=EncoderGraph(model),
            inputs={"image": torch.zeros(1, 3, size, size)},
            outputs=("memory.features",),
            dynamic={},
            samples="photos",
            activations="static",
        ),
        GraphSpec(
            role="decoder_step",
            module=StepGraph(model, names),
            inputs=inputs,
            outputs=("log_probs", *(f"next.{name}" for name in names)),
            dynamic={name: ("N",) if name == "memory.features" else ("N", "K") for name in inputs},
            samples="decoding",
            activations="dynamic",
        ),
    ]


def _read_dims(document: Mapping[str, Any]) -> CaptionerDims:
    return SecondDims.from_json(document)


def _network(dims: CaptionerDims, dropout: float) -> CaptionNetwork:
    return SecondNetwork(cast(SecondDims, dims))


ARCHITECTURE = Architecture(
    name="second",
    task="caption",
    read_dims=_read_dims,
    network=_network,
    prepared=lambda network: network,
    graphs=_graphs,
    bundle_dims=lambda dims: {"image_size": dims.image_size, "vocab_size": dims.vocab_size, "max_length": 20},
    description=lambda dims: f"{dims.backbone}, a transformer decoder",
)
