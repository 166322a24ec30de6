"""What the rest of the project asks an architecture for: one of these, and a row in the registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from edgecap.architectures.dims import CaptionerDims
from edgecap.architectures.graph_spec import GraphSpec
from edgecap.architectures.network import CaptionNetwork

Photos = Callable[[], Iterable[Tensor]]  # preprocessed, (1, 3, S, S) each


@dataclass(frozen=True)
class Architecture:
    """A kind of model. ``read_dims`` raises ``TypeError``, ``ValueError`` or ``LookupError`` for a wrong document."""

    name: str
    task: str
    read_dims: Callable[[Mapping[str, Any]], CaptionerDims]
    # Of dims and dropout, with fresh weights; raises ``ValueError`` or ``ConfigError`` for dims that none can have.
    network: Callable[[CaptionerDims, float], CaptionNetwork]
    # The network as it is exported: the same captions from a memory that is cheaper to make. Parity is with this one.
    prepared: Callable[[CaptionNetwork], CaptionNetwork]
    # The graphs of a prepared network, rewritten exactly for engines; photos are those that INT8 is calibrated on, none
    # where there is no INT8.
    graphs: Callable[[CaptionNetwork, Photos], list[GraphSpec]]
    bundle_dims: Callable[[CaptionerDims], dict[str, int]]  # ``dims`` of a manifest
    description: Callable[[CaptionerDims], str]  # of a model card, after "An image captioner"
