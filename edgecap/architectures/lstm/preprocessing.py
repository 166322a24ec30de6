"""The preprocessing that a model's dims ask for; its one implementation is the runtime's."""

from __future__ import annotations

from edgecap.architectures.lstm.dims import ModelDims
from edgecap.runtime.photo.preprocess import PreprocessConfig


def preprocess_config(dims: ModelDims) -> PreprocessConfig:
    """What ``preprocess.json`` of this model's bundle will hold."""
    mean, std = ((values[0], values[1], values[2]) for values in (dims.mean, dims.std))
    return PreprocessConfig(size=dims.image_size, mean=mean, std=std)
