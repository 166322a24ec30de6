"""The row of the LSTM captioner: what it is made of, and its graphs as engines run them best.

Source of the architecture: "CLIP-Distilled ShuffleNetV2 for the Edge"; its parts name theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from edgecap.architectures.architecture import Architecture, Photos
from edgecap.architectures.dims import CaptionerDims
from edgecap.architectures.graph_spec import GraphSpec
from edgecap.architectures.lstm.dims import ModelDims
from edgecap.architectures.lstm.graphs import encoder_spec, step_spec
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.lstm.rewrites.bias_folding import fold_projection_bias
from edgecap.architectures.network import CaptionNetwork


def _graphs(network: CaptionNetwork, photos: Photos) -> list[GraphSpec]:
    model = cast(CaptionModel, network)
    return [encoder_spec(model, photos), step_spec(model)]


def _prepared(network: CaptionNetwork) -> CaptionModel:
    return fold_projection_bias(cast(CaptionModel, network))


def _bundle_dims(dims: CaptionerDims) -> dict[str, int]:
    own = cast(ModelDims, dims)
    return {
        "image_size": own.image_size,
        "locations": own.locations,
        "feature_dim": own.feature_dim,
        "key_dim": own.attention_dim,
        "hidden_dim": own.hidden_dim,
        "vocab_size": own.vocab_size,
    }


def _network(dims: CaptionerDims, dropout: float) -> CaptionModel:
    own = cast(ModelDims, dims)
    own.check()
    return CaptionModel(own, dropout)


def _read_dims(document: Mapping[str, Any]) -> CaptionerDims:
    return ModelDims.from_json(document)


ARCHITECTURE = Architecture(
    name="lstm",
    task="caption",
    read_dims=_read_dims,
    network=_network,
    prepared=_prepared,
    graphs=_graphs,
    bundle_dims=_bundle_dims,
    description=lambda dims: f"{dims.backbone} encoder, LSTM decoder with attention over {dims.locations} locations",
)
