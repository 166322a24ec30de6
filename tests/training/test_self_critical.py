"""Self-critical training: captions drawn from the model, their rewards, and the gradient that follows from them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lstm import lstm_step
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import AdamW

from edgecap.architectures.defaults import preprocess_config
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.network import CaptionNetwork, Tensors, TorchStep
from edgecap.architectures.registry import preset_dims
from edgecap.data.karpathy import CaptionDataset, build_vocabulary
from edgecap.metrics.cider import CiderD
from edgecap.runtime.bundle.vocabulary import END, SPECIAL_TOKENS, Vocabulary
from edgecap.training.config import SelfCritical, TrainConfig
from edgecap.training.sources.batches import Batch
from edgecap.training.sources.captions import Captions, pad_captions
from edgecap.training.sources.source import Source
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.sources.views import CachedGrids
from edgecap.training.stages.drawing import draw_captions
from edgecap.training.stages.losses import Term, caption_terms
from edgecap.training.stages.self_critical import SelfCriticalStage

pytestmark = pytest.mark.usefixtures("one_torch_thread")
VOCABULARY = Vocabulary((*SPECIAL_TOKENS, "a", "dog"))
V = len(VOCABULARY)
IMPOSSIBLE = {VOCABULARY.pad_id, VOCABULARY.start_id}
Caption = tuple[int, ...]


# Drawing


class Table(nn.Module):
    """A network whose next word depends on the last one, and on the photo: its features hold the number of a table."""

    def __init__(self, seed: int, tables: int = 2, sharpness: float = 1.0) -> None:
        super().__init__()
        self.logits = sharpness * torch.randn(tables, V, V, generator=torch.Generator().manual_seed(seed))

    def begin(self, features: Tensor) -> tuple[Tensors, Tensors]:
        return {"features": features}, {}

    def step(self, token: Tensor, state: Tensors, memory: Tensors) -> TorchStep:
        number = memory["features"][:, :1, 0].long()  # (N, 1)
        return TorchStep(self.logits[number, token].log_softmax(dim=-1), state, None)

    def probabilities(self, photo: int) -> NDArray[np.float64]:
        """Of the word in the column after that in the row, among those that a caption can have."""
        return possible_alone(self.logits[photo].double().softmax(dim=-1).numpy())


def drawn_from(table: Table | list[Table], count: int, max_words: int, **how: Any) -> list[list[Caption]]:
    tables: Any = table if isinstance(table, list) else [table]
    features = torch.arange(float(len(tables[0].logits)))[:, None, None].expand(-1, 4, 3)  # (N, L, D)
    found = draw_captions(tables, [features] * len(tables), VOCABULARY, count, max_words, **how)
    return [[tuple(ids) for ids in photo] for photo in found]


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(1, 7), st.integers(1, 9), st.sampled_from([0.1, 1, 5]))
def test_captions_are_words_and_an_end_or_cut(seed: int, max_words: int, count: int, sharpness: float) -> None:
    torch.manual_seed(seed)
    captions = drawn_from(Table(seed, sharpness=sharpness), count, max_words)
    assert [len(photo) for photo in captions] == [count, count]
    for *words, last in (caption for photo in captions for caption in photo):
        assert not {*words, last} & IMPOSSIBLE and VOCABULARY.end_id not in words
        if last == VOCABULARY.end_id:
            assert len(words) <= max_words
        else:
            assert len(words) + 1 == max_words


def expected_share(probabilities: NDArray[np.float64], caption: Caption) -> float:
    """How often a caption is drawn; one that was cut stands for all that it might have become."""
    share, last = 1.0, VOCABULARY.start_id
    for word in caption:
        share, last = share * probabilities[last, word], word
    return share * (1 if last == VOCABULARY.end_id else 1 - probabilities[last, VOCABULARY.end_id])


def test_many_captions_follow_the_models_distribution() -> None:
    torch.manual_seed(0)
    table, count = Table(3, sharpness=0.5), 4000
    for photo, captions in enumerate(drawn_from(table, count, 2)):
        assert_drawn_from(table.probabilities(photo), captions)


def test_of_several_models_the_mean_is_drawn_from() -> None:
    torch.manual_seed(0)
    tables, count = [Table(3, sharpness=0.7), Table(4, sharpness=0.7)], 4000
    for photo, captions in enumerate(drawn_from(tables, count, 2)):
        mean = np.mean([table.logits[photo].double().softmax(dim=-1).numpy() for table in tables], axis=0)
        assert_drawn_from(possible_alone(mean), captions)
        with pytest.raises(AssertionError):
            assert_drawn_from(tables[0].probabilities(photo), captions)


def test_a_temperature_sharpens_what_is_drawn_from() -> None:
    torch.manual_seed(0)
    table, count = Table(3, sharpness=0.3), 4000
    for photo, captions in enumerate(drawn_from(table, count, 2, temperature=0.5)):
        assert_drawn_from(possible_alone(table.probabilities(photo) ** 2), captions)


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(1, 7), st.integers(1, 9), st.sampled_from([0.1, 1, 5, 30]))
def test_at_a_low_temperature_the_likeliest_words_are_drawn(
    seed: int, max_words: int, count: int, sharpness: float
) -> None:
    torch.manual_seed(seed)
    table = Table(seed, sharpness=sharpness)
    for photo, captions in enumerate(drawn_from(table, count, max_words, temperature=0.01)):
        logits = table.logits[photo].clone()
        logits[:, list(IMPOSSIBLE)] = -torch.inf
        for caption in captions:
            for last, word in pairwise((VOCABULARY.start_id, *caption)):
                assert logits[last, word] > logits[last].max() - 0.4  # what is less likely comes once in e^40


@settings(deadline=None)
@given(
    st.integers(0, 999),
    st.sets(st.sampled_from([VOCABULARY.unk_id, *range(4, V)])),
    st.sampled_from([0.05, 1.0, 3.0]),
)
def test_what_is_never_to_be_said_is_not_drawn(seed: int, never: set[int], temperature: float) -> None:
    torch.manual_seed(seed)
    captions = drawn_from(Table(seed), 20, 5, never=never, temperature=temperature)
    assert not {word for photo in captions for caption in photo for word in caption} & (never | IMPOSSIBLE)


def possible_alone(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same without words that no caption can have."""
    allowed = probabilities.copy()
    allowed[:, list(IMPOSSIBLE)] = 0
    result: NDArray[np.float64] = allowed / allowed.sum(axis=1, keepdims=True)
    return result


def assert_drawn_from(probabilities: NDArray[np.float64], captions: list[Caption]) -> None:
    """That captions of at most two words come as often as the probabilities of each next word have them come."""
    count = len(captions)
    words, end = [VOCABULARY.unk_id, *range(4, V)], VOCABULARY.end_id
    possible = [(*rest, end) for length in (0, 1, 2) for rest in product(words, repeat=length)]
    possible += list(product(words, repeat=2))
    expected = np.array([count * expected_share(probabilities, caption) for caption in possible])
    assert expected.sum() == pytest.approx(count)
    drawn = Counter(captions)
    found = np.array([drawn[caption] for caption in possible])
    assert found.sum() == count and expected.min() > 5
    chi_square, freedom = ((found - expected) ** 2 / expected).sum(), len(possible) - 1
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


# Rewards and gradients


@pytest.fixture(scope="module")
def stage(dataset: CaptionDataset) -> SelfCriticalStage:
    return stage_of(dataset, width=8)


def stage_of(dataset: CaptionDataset, width: int) -> SelfCriticalStage:
    torch.manual_seed(0)
    train = dataset.split("train")
    vocabulary = build_vocabulary(train, 1)
    sizes = {"attention_dim": width, "hidden_dim": width, "embedding_dim": width}
    model = CaptionModel(preset_dims("plus", len(vocabulary), projection=(width,), **sizes))
    config = TrainConfig(self_critical=SelfCritical(1, samples=3))
    data = TrainingData(train, dataset.split("val"), vocabulary, preprocess_config(model.dims))
    captions = Captions(data.learnt, vocabulary, config.max_words)
    source = Source(data, CachedGrids(config, model, data), captions)
    return SelfCriticalStage(config.self_critical, config, model, data, source)


SAID = (
    ("a red circle on the left <end>", "one blue square <end>", "a red circle on the left a red circle"),
    ("there is a red circle <end>", "there is a red circle <end>", "the circle <end>"),
    ("<end>", "a red triangle on the left <end>", "<unk> <unk> <end>"),
)
WORDS = sum(len(caption.split()) for photo in SAID for caption in photo)


def batch_of(stage: SelfCriticalStage) -> Batch:
    grids = torch.randn(3, 4, 1280, generator=torch.Generator().manual_seed(1))  # (N, L, C)
    return Batch(np.array([4, 0, 2]), grids, torch.zeros(3, 5, 4, dtype=torch.int64))


def loss_of(stage: SelfCriticalStage, monkeypatch: pytest.MonkeyPatch) -> list[Term]:
    """The loss if the model draws what is in SAID."""
    ids = {word: index for index, word in enumerate(stage.data.vocabulary.tokens)}
    drawn = [[[ids[word] for word in caption.split()] for caption in photo] for photo in SAID]
    monkeypatch.setattr("edgecap.training.stages.self_critical.draw_captions", lambda *arguments: drawn)
    return stage.loss(batch_of(stage), 0.0)


def rewards_of(stage: SelfCriticalStage) -> NDArray[np.float64]:
    """CIDEr-D of each caption in SAID against the references of its photo, the end being a word, (N, K)."""
    cider = CiderD({photo.id: [[*words, END] for words in photo.captions] for photo in stage.data.train})
    photos = [stage.data.train[index] for index in (4, 0, 2)]
    return np.array(
        [
            [cider.score({photo.id: caption.split()})[0] for caption in captions]
            for photo, captions in zip(photos, SAID, strict=True)
        ]
    )


def test_the_reward_is_cider_d_with_the_end_as_a_word(
    stage: SelfCriticalStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    reward, _ = loss_of(stage, monkeypatch)
    rewards = rewards_of(stage)
    assert rewards.std() > 0.5
    assert reward.mean == pytest.approx(-rewards.mean(), rel=1e-5) and not reward.total.requires_grad
    without_end = CiderD({photo.id: photo.captions for photo in stage.data.train})
    plain = without_end.score({stage.data.train[0].id: SAID[1][0].split()[:-1]})[0]
    assert rewards[1, 0] != pytest.approx(plain, rel=1e-2)


def advantages_of(rewards: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each caption's reward above the mean of the others' of its photo."""
    others = [[np.delete(photo, k).mean() for k in range(len(photo))] for photo in rewards]
    return rewards - np.array(others)


def test_advantages_are_above_the_mean_of_the_others_and_sum_to_zero(
    stage: SelfCriticalStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are how the loss falls with each caption's log-probability; captions come from long to short."""
    log_probs = torch.zeros(3, 3, 9, requires_grad=True)  # (N, K, T)
    monkeypatch.setattr(stage.model, "teacher_forced", lambda features, captions: log_probs)
    _, surrogate = loss_of(stage, monkeypatch)
    (gradient,) = torch.autograd.grad(surrogate.total, [log_probs])
    assert torch.equal(gradient, gradient[..., :1].expand(-1, -1, 9))  # every word has its caption's
    found = -gradient[..., 0].numpy()
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-5)
    order = [sorted(range(3), key=lambda k: -len(photo[k].split())) for photo in SAID]
    expected = np.take_along_axis(advantages_of(rewards_of(stage)), np.array(order), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def log_prob(stage: SelfCriticalStage, features: Tensor, caption: str) -> Tensor:
    """Of one caption of one photo's features (1, L, D), word by word."""
    decoder, ids = stage.model.decoder, {word: index for index, word in enumerate(stage.data.vocabulary.tokens)}
    keys, h, c = decoder.init_state(features)
    h, c, last, total = h[:, None], c[:, None], stage.data.vocabulary.start_id, torch.zeros(())
    for word in caption.split():
        log_probs, h, c, _ = lstm_step(stage.model, torch.tensor([[last]]), h, c, features, keys)
        last = ids[word]
        total = total + log_probs[0, 0, last]
    return total


def test_the_gradient_is_the_advantages_times_that_of_the_log_probability(
    stage: SelfCriticalStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = [*stage.model.decoder.parameters(), *stage.model.encoder.projection.parameters()]
    terms = loss_of(stage, monkeypatch)
    assert terms[1].over == WORDS
    loss = sum(term.weight * term.total / term.over for term in terms)
    assert isinstance(loss, Tensor)
    found = torch.autograd.grad(loss, parameters)

    features = stage.model.encoder.projection(batch_of(stage).inputs)
    direct = torch.zeros(())
    for n, (photo, advantages) in enumerate(zip(SAID, advantages_of(rewards_of(stage)), strict=True)):
        for caption, advantage in zip(photo, advantages, strict=True):
            direct = direct - advantage * log_prob(stage, features[n : n + 1], caption) / WORDS
    expected = torch.autograd.grad(direct, parameters)
    assert all(gradient.abs().max() > 0 for gradient in expected)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


def test_captions_are_drawn_without_dropout(stage: SelfCriticalStage, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[bool] = []

    def draw(models: Sequence[CaptionNetwork], *arguments: object) -> list[list[list[int]]]:
        modes.extend(model.decoder.training for model in models)
        return [[[4, 2]] * 2] * 3

    monkeypatch.setattr("edgecap.training.stages.self_critical.draw_captions", draw)
    stage.model.train()
    stage.loss(batch_of(stage), 0.0)
    assert modes == [False] and stage.model.decoder.training


def test_captions_of_teachers_are_no_references(dataset: CaptionDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of(dataset, width=8)
    (reward, _), people = loss_of(stage, monkeypatch), stage.data.train
    more = tuple(replace(photo, captions=(*photo.captions, ("one", "blue", "square"))) for photo in people)
    data = replace(stage.data, train=more, by_people=people)
    other = SelfCriticalStage(stage.options, stage.config, stage.model, data, replace(stage.source, data=data))
    assert loss_of(other, monkeypatch)[0].mean == reward.mean


def test_a_short_stage_raises_the_mean_reward(dataset: CaptionDataset) -> None:
    """After a little cross-entropy, as in a run, on grids that differ from photo to photo."""
    stage = stage_of(dataset, width=64)
    photos, model, vocabulary = stage.data.train, stage.model, stage.data.vocabulary
    grids = torch.randn(len(photos), 4, 1280, generator=torch.Generator().manual_seed(1))
    captions = pad_captions([photo.captions for photo in photos], vocabulary, stage.config.max_words)
    batch = Batch(np.arange(len(photos)), grids, captions)

    def learn(steps: int, rate: float, loss: Callable[[], list[Term]]) -> list[float]:
        optimizer, means = AdamW([{"params": group["params"]} for group in stage.parameter_groups()], lr=rate), []
        for _ in range(steps):
            terms = loss()
            optimizer.zero_grad()
            torch.stack([term.weight * term.total / term.over for term in terms]).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            means.append(terms[0].mean)
        return means

    torch.manual_seed(0)
    learn(40, 1e-2, lambda: caption_terms(model.forced_words(stage.source.views.features(grids), captions)))
    rewards = -np.array(learn(50, 3e-3, lambda: stage.loss(batch, 0.0)))
    assert rewards[:5].mean() > 1 and rewards[-5:].mean() > rewards[:5].mean() + 0.7
