"""ShuffleNetV2's channels in multiples of 16: the same function, and a graph without odd widths."""

from __future__ import annotations

import pytest
import torch
from test_shuffle_folding import outputs, random_backbone
from torch import nn

from edgecap.architectures.backbones import shufflenet
from edgecap.architectures.lstm.rewrites.channel_alignment import MULTIPLE, align_channels, aligned
from edgecap.architectures.lstm.rewrites.shuffle_folding import fold_shuffles

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize("act", ["relu", "leaky_relu"])
def test_the_aligned_backbone_is_the_same_function(act: str) -> None:
    backbone = random_backbone(act)
    found, expected = outputs(backbone, align_channels(fold_shuffles(backbone)))[::-1]
    assert expected.shape == (2, 1024, 2, 2) and expected.std() > 0.1
    assert (found - expected).abs().max() < 3e-6 * expected.abs().max()


def test_all_convolutions_but_the_first_take_and_give_aligned_channels() -> None:
    folded = align_channels(fold_shuffles(random_backbone()))
    sizes = {(conv.in_channels, conv.out_channels) for conv in folded.modules() if isinstance(conv, nn.Conv2d)}
    stem = shufflenet.STEM_CHANNELS
    assert {(3, stem), (64, 64), (128, 128)} <= sizes
    assert all(size % MULTIPLE == 0 for pair in sizes for size in pair if size not in (3, stem))


@pytest.mark.parametrize(
    "stages", [((1, 8), (2, 18), (5, 30)), ((6, 14), (1, 10), (1, 2)), ((3, 64), (2, 32), (2, 96))]
)
def test_stages_of_other_sizes(stages: tuple[tuple[int, int], ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shufflenet, "STAGES", stages)
    backbone = random_backbone()
    expected, found = outputs(backbone, align_channels(fold_shuffles(backbone)))
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 3e-6 * expected.abs().max()


@pytest.mark.parametrize(("channels", "expected"), [(1, 16), (16, 16), (58, 64), (116, 128), (232, 240)])
def test_the_next_multiple(channels: int, expected: int) -> None:
    assert aligned(channels) == expected


def test_the_original_is_left_alone() -> None:
    backbone = random_backbone()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    align_channels(fold_shuffles(backbone))
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
