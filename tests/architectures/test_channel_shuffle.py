"""The shuffle that trains fast gives the bits of the plain one, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgecap.architectures.backbones.channel_shuffle import channel_shuffle, shuffled_halves
from edgecap.architectures.backbones.shufflenet import InvertedResidual, ShuffleNetV2, Stage


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_halves_and_gradients_are_those_of_the_plain_shuffle(dtype: torch.dtype, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    maps = [torch.randn(2, 6, 5, 4, dtype=dtype).contiguous(memory_format=layout) for _ in range(4)]
    found, expected = [], []
    for results, shuffle in ((found, shuffled_halves), (expected, _plainly)):
        passed, worked = (x.clone().requires_grad_() for x in maps[:2])
        halves = shuffle(passed, worked)
        torch.autograd.backward(halves, maps[2:])
        results += [*halves, passed.grad, worked.grad]
    assert all(torch.equal(ours, plain) for ours, plain in zip(found, expected, strict=True))


def _plainly(passed: Tensor, worked: Tensor) -> tuple[Tensor, ...]:
    return channel_shuffle(torch.cat((passed, worked), dim=1)).chunk(2, dim=1)


@pytest.mark.usefixtures("one_torch_thread")
@pytest.mark.parametrize("act", ["relu", "leaky_relu"])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_step_of_the_network_is_that_of_its_units_one_by_one(act: str, bfloat16: bool) -> None:
    torch.manual_seed(0)
    network = ShuffleNetV2(act).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plain = ShuffleNetV2(act).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plain.load_state_dict(network.state_dict())
    images = torch.rand(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        ours, theirs = network(images), _unit_by_unit(plain, images)
    assert torch.equal(ours, theirs)
    for out in (ours, theirs):
        out.float().square().mean().backward()
    # With AMX some sums of bfloat16 go in another order, and are a rounding apart.
    limits = {"rtol": 2**-7, "atol": 2e-4} if bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    for (name, learnt), expected in zip(network.named_parameters(), plain.parameters(), strict=True):
        assert learnt.grad is not None and expected.grad is not None
        torch.testing.assert_close(learnt.grad, expected.grad, **limits, msg=name)
    assert all(map(torch.equal, network.buffers(), plain.buffers()))


def _unit_by_unit(network: ShuffleNetV2, images: Tensor) -> Tensor:
    """Stem and units as they are evaluated, with BatchNorm as it trains."""
    x = network.maxpool(network.conv1(images))
    for stage in (module for module in network.children() if isinstance(module, Stage)):
        for unit in stage:
            assert isinstance(unit, InvertedResidual)
            x = unit(x)
    return network.conv5(x)  # type: ignore[no-any-return]
