"""Averaged weights: a recurrence over the steps, applied for a while or for good."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgecap.training.ema import AveragedWeights

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def network() -> nn.Sequential:
    """With weights, BatchNorm's statistics, and its count of batches, which is an integer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def learn(model: nn.Module, seed: int) -> None:
    """Change everything, as a step does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    model.train()(torch.randn(8, 3, generator=generator))


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(dict(model.state_dict()))


def averaged(average: AveragedWeights, model: nn.Module) -> dict[str, Tensor]:
    with average.applied():
        return state_of(model)


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 0.999), st.integers(1, 30))
def test_the_average_is_a_recurrence_over_the_steps(decay: float, steps: int) -> None:
    """It starts as the first step's weights, and its decay rises as steps / (steps + 9) until it is the one given."""
    model = network()
    average, expected = AveragedWeights(model, decay), dict[str, Tensor]()
    for step in range(1, steps + 1):
        learn(model, step)
        average.update()
        current, kept = state_of(model), min(decay, step / (step + 9))
        for name, tensor in current.items():
            before = expected.get(name, tensor.double())
            expected[name] = kept * before + (1 - kept) * tensor.double()
    found = averaged(average, model)
    for name, tensor in found.items():
        if name == "1.num_batches_tracked":
            assert tensor == steps
        else:
            torch.testing.assert_close(tensor.double(), expected[name], atol=1e-4, rtol=1e-4)


def test_no_average_of_the_start_remains() -> None:
    model = network()
    average = AveragedWeights(model, 0.9999)
    with torch.no_grad():
        model.get_parameter("0.bias").fill_(1000)
    average.update()
    with torch.no_grad():
        model.get_parameter("0.bias").fill_(1)
    for _ in range(200):
        average.update()
    assert averaged(average, model)["0.bias"].max() < 1.01  # with a plain decay it would be above 900


def test_applied_weights_leave_again_bit_by_bit() -> None:
    model = network()
    average = AveragedWeights(model, 0.9)
    for seed in range(3):
        learn(model, seed)
        average.update()
    before = state_of(model)
    with average.applied():
        assert not torch.equal(model.get_parameter("0.weight"), before["0.weight"])
    assert_same(state_of(model), before)
    with pytest.raises(ZeroDivisionError), average.applied():
        raise ZeroDivisionError
    assert_same(state_of(model), before)


def test_what_learns_after_an_application_is_the_model_itself() -> None:
    """Its parameters stay the same objects, so the optimizer's are not left behind, and the average is not one."""
    model = network()
    average = AveragedWeights(model, 0.9)
    learn(model, 1)
    average.update()
    parameters = list(model.parameters())
    frozen = averaged(average, model)
    learn(model, 2)
    assert all(one is two for one, two in zip(parameters, model.parameters(), strict=True))
    assert_same(averaged(average, model), frozen)


def test_an_adopted_average_is_the_model_and_a_new_one_starts() -> None:
    model = network()
    average = AveragedWeights(model, 0.9)
    for seed in range(3):
        learn(model, seed)
        average.update()
    expected = averaged(average, model)
    average.adopt()
    assert_same(state_of(model), expected)
    assert average.state() == {}
    learn(model, 9)
    average.update()
    assert_same(averaged(average, model), state_of(model))  # the first step after it alone
    assert average.state()["steps"] == 1


def test_a_saved_average_goes_on_where_it_was() -> None:
    model = network()
    average, restored = AveragedWeights(model, 0.9), AveragedWeights(model, 0.9)
    for seed in range(4):
        learn(model, seed)
        average.update()
    saved = {name: tensor.clone() for name, tensor in average.state().items()}
    restored.load_state(saved)
    for seed in range(4, 8):
        learn(model, seed)
        average.update()
        restored.update()
    assert_same(dict(restored.state()), dict(average.state()))
    assert saved["steps"] == 4 and not torch.equal(saved["weights.0.weight"], average.state()["weights.0.weight"])


def test_the_average_of_another_model_is_refused() -> None:
    model, wider = network(), nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    average = AveragedWeights(wider, 0.9)
    average.update()
    with pytest.raises(RuntimeError, match=r"size mismatch for 0\.weight"):
        AveragedWeights(model, 0.9).load_state(average.state())


def test_no_state_restores_to_no_average() -> None:
    model = network()
    average = AveragedWeights(model, 0.9)
    average.load_state({})
    learn(model, 1)
    average.update()
    assert average.state()["steps"] == 1


def test_without_decay_nothing_is_kept_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    average = AveragedWeights(model, 0.0)
    learn(model, 1)
    before = state_of(model)
    monkeypatch.setattr(model, "state_dict", None)  # it is not even looked at
    monkeypatch.setattr(model, "load_state_dict", None)
    average.update()
    with average.applied():
        average.adopt()
    assert average.state() == {}
    monkeypatch.undo()
    assert_same(state_of(model), before)
