"""Blocks of a backbone that are kept from learning: the first ones, whose edges and textures any photos have taught."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from edgecap.errors import ConfigError


def still_blocks(backbone: nn.Module, share: float) -> list[nn.Module]:
    """The stem and the first blocks of a backbone, whose weights get no gradient from now on; none of a ``share`` of 0.

    Their BatchNorm goes on taking statistics unless they are in evaluation mode. Raises ``ConfigError`` for a backbone
    without blocks.
    """
    if not share:
        return []
    if not hasattr(backbone, "first_blocks"):
        raise ConfigError("training configuration: frozen_blocks is for backbones that are made of blocks")
    blocks: list[nn.Module] = cast(Any, backbone).first_blocks(share)
    for block in blocks:
        block.requires_grad_(False)
    return blocks
