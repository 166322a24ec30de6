"""One int8 scale for all branches of a stage: the same function, and ranges that meet."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from test_shuffle_folding import outputs, random_backbone
from torch import Tensor, nn

from edgecap.architectures.lstm.rewrites.channel_alignment import align_channels
from edgecap.architectures.lstm.rewrites.scale_sharing import CAP, capped, share_scales
from edgecap.architectures.lstm.rewrites.shuffle_folding import FoldedStage, fold_shuffles

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def photos() -> list[Tensor]:
    return list(torch.randn(4, 1, 3, 64, 64, generator=torch.Generator().manual_seed(2)))


def read_by_stages(backbone: nn.Module) -> list[Tensor]:
    """The largest value of each slice that is read, over the photos."""
    found: list[Tensor] = []
    for stage in backbone.children():
        if isinstance(stage, FoldedStage):
            tops: dict[int, Tensor] = {}
            handles = [
                branch.register_forward_hook(
                    lambda _, __, output, n=n, tops=tops: tops.__setitem__(
                        n, torch.maximum(tops.get(n, torch.zeros(1)), output.amax(dim=(0, 2, 3)))
                    )
                )
                for n, branch in enumerate(stage.branches)
            ]
            with torch.inference_mode():
                for photo in photos():
                    backbone(photo)
            for handle in handles:
                handle.remove()
            found += [tops[n][start:stop].max() for slices in stage.slices for n, start, stop in slices]
    return found


@pytest.mark.parametrize("act", ["relu", "leaky_relu"])
def test_the_rescaled_backbone_is_the_same_function(act: str) -> None:
    backbone = random_backbone(act)
    folded = align_channels(fold_shuffles(backbone))
    before = [tensor.clone() for tensor in folded.state_dict().values()]
    share_scales(folded, photos())
    assert any(not torch.equal(old, new) for old, new in zip(before, folded.state_dict().values(), strict=True))
    expected, found = outputs(backbone, folded)
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_all_that_is_concatenated_has_one_range() -> None:
    folded = align_channels(fold_shuffles(random_backbone()))
    assert len({round(float(top), 3) for top in read_by_stages(folded)}) > 10
    share_scales(folded, photos())
    tops = torch.stack(read_by_stages(folded))
    assert (tops > CAP).all() and (tops < CAP * 1.021).all()


def test_without_photos_nothing_changes() -> None:
    folded = align_channels(fold_shuffles(random_backbone()))
    before = {name: tensor.clone() for name, tensor in folded.state_dict().items()}
    share_scales(folded, ())
    assert all(torch.equal(tensor, before[name]) for name, tensor in folded.state_dict().items())


def test_a_cap_is_on_what_is_concatenated_and_on_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("onnxsim", reason="exporting needs the extra export")
    from edgecap.architectures.lstm.graphs import encoder_spec
    from edgecap.architectures.lstm.network import CaptionModel
    from edgecap.architectures.registry import preset_dims
    from edgecap.export.graphs.torch_to_onnx import export_graph, graph_session

    torch.manual_seed(0)
    model = CaptionModel(preset_dims("tiny", 50)).eval()
    size = model.dims.image_size
    images = torch.randn(2, 1, 3, size, size, generator=torch.Generator().manual_seed(3))
    path = tmp_path / "encoder.onnx"
    export_graph(encoder_spec(model, lambda: images), path, 17)
    plain = onnx.load_model(path)
    limited = capped(onnx.load_model(path))
    count = Counter(node.op_type for node in limited.graph.node)
    assert count["Clip"] == count["Concat"] + 3  # each of the three stages has a branch more than readers
    assert count["Relu"] + count["Clip"] == sum(node.op_type == "Relu" for node in plain.graph.node)
    # What the cap takes off is little.
    for image in images.numpy():
        wanted, found = (
            graph_session(graph, ["memory.features"]).run(["memory.features"], {"image": image})[0]
            for graph in (plain, limited)
        )
        assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()
