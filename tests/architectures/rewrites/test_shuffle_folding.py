"""ShuffleNetV2 without shuffles: the same function, and a graph that only convolves, slices and concatenates."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgecap.architectures.backbones import shufflenet
from edgecap.architectures.backbones.channel_shuffle import channel_shuffle
from edgecap.architectures.backbones.shufflenet import ShuffleNetV2
from edgecap.architectures.lstm.rewrites.shuffle_folding import fold_shuffles, plan_stage

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def random_backbone(act: str = "relu") -> ShuffleNetV2:
    """Statistics and scales that differ from channel to channel: none can be mistaken for another."""
    torch.manual_seed(0)
    backbone = ShuffleNetV2(act)
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None and norm.running_var is not None
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
            nn.init.normal_(norm.running_mean, std=0.3)
            nn.init.uniform_(norm.running_var, 0.1, 0.5)
    return backbone.eval()


def outputs(backbone: ShuffleNetV2, folded: nn.Module) -> tuple[Tensor, Tensor]:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return backbone(images), folded(images)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 13))
def test_a_plan_brings_every_channel_to_its_reader_and_to_no_other(units: int, width: int) -> None:
    plan = plan_stage(units, width)
    assert (len(plan.made), len(plan.slices), len(plan.read)) == (units + 1, units, units)
    assert all(sorted(made) == list(range(width)) for made in plan.made)
    for source in range(units + 1):  # read from end to end, by one reader after the other
        pieces = [piece for pieces in plan.slices for piece in pieces if piece.source == source]
        assert [0, *(piece.stop for piece in pieces)] == [*(piece.start for piece in pieces), width]

    # The network itself, with a number for each channel in place of its map.
    sources = torch.arange((units + 1) * width).reshape(units + 1, width)
    reordered = torch.stack([source[made] for source, made in zip(sources, plan.made, strict=True)])
    passed = sources[0]
    for unit, (pieces, read) in enumerate(zip(plan.slices, plan.read, strict=True)):
        state = channel_shuffle(torch.cat((passed, sources[unit + 1])).view(1, -1, 1, 1)).flatten()  # (C,)
        passed, worked = state.chunk(2)
        expected = state if unit == units - 1 else worked
        found = torch.cat([reordered[source, start:stop] for source, start, stop in pieces])
        assert torch.equal(found, expected[read])
        assert len({piece.source for piece in pieces}) == len(pieces)  # one slice of each source


@pytest.mark.parametrize("act", ["relu", "leaky_relu"])
def test_the_folded_backbone_is_the_same_function(act: str) -> None:
    backbone = random_backbone(act)
    folded = fold_shuffles(backbone.train())
    assert backbone.training and not any(module.training for module in folded.modules())
    assert folded.out_channels == backbone.out_channels
    expected, found = outputs(backbone.eval(), folded)
    assert expected.shape == (2, 1024, 2, 2) and expected.std() > 0.1
    assert (found - expected).abs().max() < 3e-6 * expected.abs().max()


@pytest.mark.parametrize("stages", [((1, 8), (2, 18), (5, 30)), ((6, 14), (1, 10), (1, 2))])
def test_stages_of_other_sizes(stages: tuple[tuple[int, int], ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shufflenet, "STAGES", stages)
    backbone = random_backbone()
    expected, found = outputs(backbone, fold_shuffles(backbone))
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 3e-6 * expected.abs().max()


def test_the_given_backbone_keeps_its_weights() -> None:
    backbone = random_backbone()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    folded = fold_shuffles(backbone)
    for parameter in folded.parameters():
        nn.init.zeros_(parameter)
    after = backbone.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.filterwarnings("ignore")  # of the exporter's own internals
def test_the_graph_has_no_shuffles() -> None:
    pytest.importorskip("onnxscript", reason="exporting needs the extra export")
    onnxsim = pytest.importorskip("onnxsim", reason="exporting needs the extra export")
    onnxruntime = pytest.importorskip("onnxruntime", reason="running a graph needs the extra onnx")
    backbone = random_backbone()
    program = torch.onnx.export(
        fold_shuffles(backbone),
        (torch.zeros(2, 3, 64, 64),),
        input_names=["images"],
        opset_version=18,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    graph, valid = onnxsim.simplify(program.model_proto, perform_optimization=False)
    assert valid
    operators = Counter(node.op_type for node in graph.graph.node)
    # 3 stages of 4, 8 and 4 units: what each unit but the first reads and the stage's end are one Concat each. The
    # output of the last branch of a stage is read whole, every other one in slices.
    assert operators == {"Conv": 56, "Relu": 37, "MaxPool": 1, "Concat": 16, "Slice": 69}

    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = backbone(images).numpy()
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
