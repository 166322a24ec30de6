"""The sizes of a captioner, which its checkpoint carries, and the named presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgecap.architectures.dims import IMAGENET_MEAN, IMAGENET_STD, LITE_MEAN, LITE_STD, STRIDE
from edgecap.runtime.bundle.typed import read_options

ACTIVATIONS = ("relu", "leaky_relu")
MOST_PROJECTIONS = 16
BACKBONE_CHANNELS = {
    "shufflenet_v2_x1_0": 1024,
    "shufflenet_v2_x1_0_narrow": 512,
    "efficientnet_lite0": 1280,
    "efficientnet_lite2": 1280,
    "efficientnet_lite3": 1280,
    "efficientnet_lite2_lite3": 2560,
}


@dataclass(frozen=True)
class ModelDims:
    """Everything that fixes the shapes and the input of a captioner, apart from its weights."""

    preset: str
    backbone: str  # one of BACKBONE_CHANNELS
    projection: tuple[int, ...]  # widths of the layers from the backbone's channels to the features
    vocab_size: int
    mean: tuple[float, ...]  # of the photo, per channel, on 0..1
    std: tuple[float, ...]
    activation: str = "relu"  # of the ShuffleNetV2 backbone: relu | leaky_relu
    image_size: int = 224
    attention_dim: int = 512
    hidden_dim: int = 512
    embedding_dim: int = 512
    tied: bool = False  # the output layer's matrix is the embedding's

    @property
    def feature_dim(self) -> int:
        return self.projection[-1] if self.projection else BACKBONE_CHANNELS[self.backbone]

    @property
    def locations(self) -> int:
        return (self.image_size // STRIDE) ** 2

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ModelDims:
        """Inverse of :meth:`to_json`. Raises ``ValueError`` on missing or unknown fields, and such of other types."""
        return read_options(cls, document, "dims")

    def check(self) -> None:
        """Raise ``ValueError`` for what no network is built of."""
        if len(self.projection) > MOST_PROJECTIONS:
            raise ValueError(f"more than {MOST_PROJECTIONS} layers of projection")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"the activation {self.activation!r:.60}")


PRESETS: dict[str, ModelDims] = {
    # The paper's student: 1024 -> 512 -> 512 after ShuffleNetV2, 2,041,060 encoder parameters.
    "base": ModelDims("base", "shufflenet_v2_x1_0", (512, 512), 0, IMAGENET_MEAN, IMAGENET_STD),
    # What the paper aims for: under 4 M parameters and under 0.2 G multiply-accumulates for all of a caption.
    "tiny": ModelDims(
        "tiny",
        "shufflenet_v2_x1_0_narrow",
        (),
        0,
        IMAGENET_MEAN,
        IMAGENET_STD,
        attention_dim=256,
        hidden_dim=256,
        embedding_dim=256,
        tied=True,
    ),
    "plus": ModelDims("plus", "efficientnet_lite0", (512,), 0, LITE_MEAN, LITE_STD),
    # Not for a board: teachers of the others.
    "large": ModelDims("large", "efficientnet_lite2_lite3", (512,), 0, LITE_MEAN, LITE_STD),
    "large-lite2": ModelDims("large-lite2", "efficientnet_lite2", (512,), 0, LITE_MEAN, LITE_STD),
    "large-lite3": ModelDims("large-lite3", "efficientnet_lite3", (512,), 0, LITE_MEAN, LITE_STD),
}
