"""The student encoder: a convolutional backbone and a projection of its 7 x 7 map to 49 features."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from edgecap.architectures.backbones.efficientnet import EfficientNetLite, SideBySide
from edgecap.architectures.backbones.shufflenet import ShuffleNetV2
from edgecap.architectures.lstm.dims import BACKBONE_CHANNELS, ModelDims
from edgecap.architectures.network import PhotoEncoder
from edgecap.errors import ConfigError

# A backbone turns images (B, 3, S, S) into a map (B, out_channels, S/32, S/32).
BACKBONES: dict[str, Callable[[ModelDims], nn.Module]] = {
    "shufflenet_v2_x1_0": lambda dims: ShuffleNetV2(dims.activation),
    "shufflenet_v2_x1_0_narrow": lambda dims: ShuffleNetV2(dims.activation, BACKBONE_CHANNELS[dims.backbone]),
    "efficientnet_lite0": lambda dims: EfficientNetLite("lite0"),
    "efficientnet_lite2": lambda dims: EfficientNetLite("lite2"),
    "efficientnet_lite3": lambda dims: EfficientNetLite("lite3"),
    "efficientnet_lite2_lite3": lambda dims: SideBySide("lite2", "lite3"),
}


class Encoder(PhotoEncoder):
    """Photo batch (B, 3, S, S) -> features (B, L, D), whatever the backbone."""

    projection: nn.Sequential

    def __init__(self, dims: ModelDims) -> None:
        super().__init__()
        if dims.backbone not in BACKBONES:
            raise ConfigError(f"unknown backbone {dims.backbone!r}: choose one of {', '.join(BACKBONES)}")
        self.backbone = BACKBONES[dims.backbone](dims)
        layers: list[nn.Module] = []
        channels = int(self.backbone.out_channels)  # type: ignore[arg-type]
        for width in dims.projection:
            layers += [nn.ReLU(), nn.Linear(channels, width)]
            channels = width
        # The map leaves the backbone rectified already, so only the layers between two projections need a ReLU.
        self.projection = nn.Sequential(*layers[1:])

    def grid(self, images: Tensor) -> Tensor:
        """The backbone's map as locations: (B, 3, S, S) -> (B, L, C). What is cached when the backbone is frozen."""
        feature_map: Tensor = self.backbone(images)  # (B, C, 7, 7)
        return feature_map.permute(0, 2, 3, 1).flatten(1, 2)  # (B, 7, 7, C) -> (B, L, C)
