"""What the sizes of every captioner have in common; nothing here needs torch."""

from __future__ import annotations

from typing import Any, Protocol

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3  # (x - 127) / 128 on 0..255
STRIDE = 32  # of all backbones: pixels a side of one location


class CaptionerDims(Protocol):
    """Everything that fixes the shapes and the input of a captioner, apart from its weights: a frozen dataclass.

    Its architecture reads it from the JSON that :meth:`to_json` gives.
    """

    @property
    def preset(self) -> str: ...

    @property
    def backbone(self) -> str:
        """The name of the encoder's backbone."""
        ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def image_size(self) -> int:
        """Pixels of a side."""
        ...

    @property
    def mean(self) -> tuple[float, ...]:
        """Of the photo, per channel, on 0..1."""
        ...

    @property
    def std(self) -> tuple[float, ...]: ...

    @property
    def feature_dim(self) -> int:
        """Channels of the encoder's features."""
        ...

    @property
    def locations(self) -> int: ...

    def to_json(self) -> dict[str, Any]: ...
