"""What is minimised: cross-entropy, smoothed or not, the attention's penalty, and which words are fed in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from edgecap.architectures.defaults import preprocess_config
from edgecap.architectures.lstm.network import CaptionModel, ForcedStep
from edgecap.architectures.registry import preset_dims
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.training.config import Distillation, TrainConfig
from edgecap.training.sources.batches import Batch, TeacherTensors
from edgecap.training.sources.source import Photos, TrainingData
from edgecap.training.stages.distillation import DistillationStage
from edgecap.training.stages.losses import Term, caption_terms, distance_term
from edgecap.training.stages.stage import CaptionStage
from edgecap.training.teachers.teacher_cache import TeacherCache
from edgecap.training.teachers.teacher_head import TeacherHead

pytestmark = pytest.mark.usefixtures("one_torch_thread")
V, LOCATIONS, WIDTH = 12, 4, 10
PAD, START, END = 0, 1, 2


@pytest.fixture(scope="module")
def model() -> CaptionModel:
    """A small model in evaluation mode, far from uniform."""
    torch.manual_seed(0)
    sizes = {"projection": (WIDTH,), "attention_dim": 9, "hidden_dim": 8, "embedding_dim": 7, "image_size": 64}
    model = CaptionModel(preset_dims("plus", V, **sizes)).eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3)
    return model


WORDS = st.lists(st.integers(3, V - 1), max_size=5)
PHOTOS = st.lists(st.lists(WORDS, min_size=1, max_size=4), min_size=1, max_size=3)  # captions of each photo


def padded(photos: list[list[list[int]]]) -> Tensor:
    """Captions (N, K, T + 1); a photo with fewer of them has empty ones."""
    count = max(map(len, photos))
    length = max(len(words) for photo in photos for words in photo) + 2
    captions = torch.full((len(photos), count, length), PAD)
    for n, photo in enumerate(photos):
        for k, words in enumerate(sorted(photo, key=len, reverse=True)):
            captions[n, k, : len(words) + 2] = torch.tensor([START, *words, END])
    return captions


def features_of(photos: int) -> Tensor:
    return torch.randn(photos, LOCATIONS, WIDTH, generator=torch.Generator().manual_seed(photos))


def one_by_one(model: CaptionModel, photos: list[list[list[int]]]) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
    """Of each caption alone: log-probabilities (T, V), attention (T, L) and the words that follow, without padding."""
    features = features_of(len(photos))
    for n, photo in enumerate(photos):
        keys, h0, c0 = model.decoder.init_state(features[n : n + 1])
        for words in photo:
            h, c, rows, looked = h0[:, None], c0[:, None], [], []
            for word in [START, *words]:
                log_probs, h, c, alpha = model.decoder.step(torch.tensor([[word]]), h, c, features[n : n + 1], keys)
                rows.append(log_probs[0, 0])
                looked.append(alpha[0, 0])
            yield torch.stack(rows), torch.stack(looked), [*words, END]


def terms_of(
    model: CaptionModel, photos: list[list[list[int]]], smoothing: float = 0.0, attention_penalty: float = 0.0
) -> list[Term]:
    return terms_of_padded(model, features_of(len(photos)), padded(photos), smoothing, attention_penalty)


def terms_of_padded(
    model: CaptionModel, features: Tensor, captions: Tensor, smoothing: float, attention_penalty: float
) -> list[Term]:
    steps = model.forced_steps(features, captions)
    return caption_terms(steps, captions.shape[1], smoothing=smoothing, attention_penalty=attention_penalty)


def value(terms: list[Term]) -> float:
    return sum((term.weight * term.total / term.over).item() for term in terms)


@settings(max_examples=25, deadline=None)
@given(PHOTOS, st.sampled_from([0.0, 0.1, 0.7]))
def test_caption_terms_are_torchs_cross_entropy(
    model: CaptionModel, photos: list[list[list[int]]], smoothing: float
) -> None:
    with torch.inference_mode():
        terms = terms_of(model, photos, smoothing=smoothing)
        log_probs, _, targets = zip(*one_by_one(model, photos), strict=True)
        words = torch.tensor([word for caption in targets for word in caption])
        expected = F.cross_entropy(torch.cat(log_probs), words, label_smoothing=smoothing)
        plain = F.cross_entropy(torch.cat(log_probs), words)
    assert value(terms) == pytest.approx(expected.item(), abs=1e-4)
    assert terms[0].mean == pytest.approx(plain.item(), abs=1e-4)  # what the log shows has no smoothing
    assert all(term.over == len(words) for term in terms) and len(terms) == (2 if smoothing else 1)


def test_a_photo_with_fewer_captions_counts_for_those_that_it_has(model: CaptionModel) -> None:
    """The same as its captions and the other photo's apart, by their words."""
    photos = [[[5, 6, 7], [4]], [[8, 9]]]
    with torch.inference_mode():
        together = terms_of(model, photos, smoothing=0.1, attention_penalty=1.0)
        features, captions = features_of(2), padded(photos)
        apart = [
            terms_of_padded(model, features[n : n + 1], rows[None], smoothing=0.1, attention_penalty=1.0)
            for n, rows in ((0, captions[0]), (1, captions[1, :1]))
        ]
    for whole, *parts in zip(together, *apart, strict=True):
        assert whole.over == sum(part.over for part in parts)
        assert whole.total.item() == pytest.approx(sum(part.total.item() for part in parts), abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(PHOTOS)
def test_the_attention_penalty_is_a_plain_loop(model: CaptionModel, photos: list[list[list[int]]]) -> None:
    with torch.inference_mode():
        *_, penalty = terms_of(model, photos, attention_penalty=0.3)
        per_caption = []
        for _, looked, _ in one_by_one(model, photos):
            seen = [sum(float(step[place]) for step in looked) for place in range(LOCATIONS)]
            per_caption.append(sum((1 - share) ** 2 for share in seen))
    assert (penalty.over, penalty.weight) == (len(per_caption), 0.3)
    assert penalty.mean == pytest.approx(sum(per_caption) / len(per_caption), abs=1e-4)


def test_a_word_too_many_is_no_part_of_the_penalty(model: CaptionModel) -> None:
    """Four words that look everywhere alike add up to 1 for each of four places; padding must add nothing."""
    even = torch.full((1, 1, LOCATIONS), 1 / LOCATIONS)
    steps = [ForcedStep(torch.zeros(1, 1, V), even, torch.tensor([[word]])) for word in (5, 6, 7, END, PAD, PAD)]
    *_, penalty = caption_terms(steps, 1, attention_penalty=1.0)
    assert penalty.total.item() == pytest.approx(0, abs=1e-6)


def test_gradients_of_the_terms_reach_the_attention(model: CaptionModel) -> None:
    *_, penalty = terms_of(model, [[[5, 6, 7]]], attention_penalty=1.0)
    (gradient,) = torch.autograd.grad(penalty.total, [model.decoder.energy.weight])
    assert gradient.abs().max() > 1e-4


def test_the_mean_of_a_term_has_no_weight() -> None:
    assert Term(torch.tensor(6.0), 4, weight=0.1).mean == 1.5 and Term(torch.tensor(6.0), 4).weight == 1
    assert Term(torch.tensor(0.0), 0).mean == 0


def test_distance_is_the_mean_squared_error() -> None:
    generator = torch.Generator().manual_seed(0)
    found, wanted = torch.randn(2, 2, 49, 5, generator=generator)
    term = distance_term(found, wanted, 0.3)
    assert term.mean == pytest.approx(F.mse_loss(found, wanted).item(), rel=1e-5) and term.weight == 0.3


# With a teacher


class SmallTeacher:
    grid_dim, pooled_dim = 6, 5


def taught(model: CaptionModel) -> tuple[TrainConfig, TrainingData, TeacherHead, Batch]:
    config = TrainConfig(
        teacher="efficientnet-lite0", alpha=0.6, beta=0.2, spatial=0.05, distillation=Distillation(1, pooled=0.4)
    )
    vocabulary = Vocabulary((*SPECIAL_TOKENS, *(f"word{n}" for n in range(V - len(SPECIAL_TOKENS)))))
    data = TrainingData((), (), vocabulary, preprocess_config(model.dims))
    torch.manual_seed(1)
    head = TeacherHead(WIDTH, SmallTeacher())  # type: ignore[arg-type]
    teacher = TeacherTensors(torch.randn(2, LOCATIONS, 6), torch.randn(2, 5))
    images = torch.randn(2, 3, 64, 64)
    return config, data, head, Batch(np.arange(2), images, padded([[[5, 6, 7], [4]], [[8, 9]]]), teacher)


def distances(model: CaptionModel, head: TeacherHead, batch: Batch) -> tuple[float, float]:
    """Mean squared errors of the locations and of the whole photo."""
    assert batch.teacher is not None
    features = model.encoder(batch.inputs)
    grid, pooled = head.grid(features), head.pooled(features.mean(dim=1))
    return F.mse_loss(grid, batch.teacher.grid).item(), F.mse_loss(pooled, batch.teacher.pooled).item()


def test_end_to_end_words_and_distances_are_weighed(model: CaptionModel) -> None:
    config, data, head, batch = taught(model)
    stage = CaptionStage("end_to_end", config.end_to_end, config, model, data, Photos(config, model, data), head)
    with torch.no_grad():
        found = stage.loss(batch, 0.0)
        (words,) = caption_terms(model.forced_steps(model.encoder(batch.inputs), batch.captions), 2)
        by_location, whole = distances(model, head, batch)
    assert value(found) == pytest.approx(0.2 * words.mean + 0.05 * by_location + 0.6 * whole, rel=1e-4)
    assert found[0].mean == pytest.approx(words.mean, rel=1e-5)  # the log shows words without their weight
    with torch.no_grad():
        untaught = stage.loss(replace(batch, teacher=None), 0.0)
    assert value(untaught) == pytest.approx(words.mean, rel=1e-5)


def test_distillation_learns_locations_and_the_whole(model: CaptionModel) -> None:
    config, data, head, batch = taught(model)
    cache = TeacherCache(SmallTeacher(), [], [], config)  # type: ignore[arg-type]
    stage = DistillationStage(config.distillation, config, model, data, cache, head)
    with torch.no_grad():
        found = stage.loss(batch, 0.0)
        by_location, whole = distances(model, head, batch)
    assert value(found) == pytest.approx(by_location + 0.4 * whole, rel=1e-4)
    assert found[0].mean == pytest.approx(by_location, rel=1e-4)


# Whose words are fed in


class Successor(nn.Module):
    """A decoder that is sure that word w + 1 follows word w, round and round from 3; it keeps what it was fed."""

    def __init__(self) -> None:
        super().__init__()
        self.fed: list[Tensor] = []

    def init_state(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return features, *torch.zeros(2, len(features), 1)

    def step(self, token: Tensor, h: Tensor, c: Tensor, features: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
        self.fed.append(token)
        following = F.one_hot(successor(token), V).float()  # (N, K, V)
        return following.log(), h, c, torch.full((*token.shape, LOCATIONS), 1 / LOCATIONS)


def successor(token: Tensor) -> Tensor:
    return torch.where(token < 3, 3, 3 + (token - 2) % (V - 3))


def fed_with(own_words: float) -> tuple[Tensor, Tensor]:
    """Captions (N, K, T + 1) that are never what the decoder expects, and what was fed (N, K, T)."""
    torch.manual_seed(0)
    model = CaptionModel(preset_dims("plus", V, projection=(WIDTH,)))
    model.decoder = decoder = Successor()  # type: ignore[assignment]
    words = [[5, 3, 11, 8, 6, 4, 9, 7, 5, 10][:length] for length in (10, 9, 6)]
    captions = padded([words] * 40)
    for step in model.forced_steps(torch.zeros(40, LOCATIONS, WIDTH), captions, own_words):
        assert step.target.shape == decoder.fed[-1].shape
    fed = torch.stack([F.pad(token, (0, 3 - token.shape[1])) for token in decoder.fed], dim=-1)
    return captions, fed


def test_captions_are_fed_their_own_words() -> None:
    captions, fed = fed_with(0.0)
    fed_and_real = fed[captions[:, :, 1:] != PAD], captions[:, :, :-1][captions[:, :, 1:] != PAD]
    assert torch.equal(*fed_and_real)


@pytest.mark.parametrize(("own_words", "least", "most"), [(0.999, 0.98, 1.0), (0.5, 0.44, 0.56), (0.1, 0.06, 0.14)])
def test_the_models_own_words_are_fed_as_often_as_asked(own_words: float, least: float, most: float) -> None:
    captions, fed = fed_with(own_words)
    assert (fed[:, :, 0] == START).all()  # no word comes before the first
    going_on = captions[:, :, 2:] != PAD  # a word that is fed and has one after it
    given, found = captions[:, :, 1:-1][going_on], fed[:, :, 1:][going_on]
    expected = successor(fed[:, :, :-1])[going_on]
    own = (found == expected) & (found != given)
    assert (own | (found == given)).all()
    assert least <= own.sum().item() / (given != expected).sum().item() <= most


def test_targets_are_the_captions_whatever_is_fed() -> None:
    torch.manual_seed(0)
    captions = padded([[[5, 6, 7], [4]], [[8, 9]]])
    model = CaptionModel(preset_dims("plus", V, projection=(WIDTH,), hidden_dim=8, attention_dim=8, embedding_dim=8))
    steps = list(model.forced_steps(features_of(2), captions, 0.999))
    found = torch.stack([F.pad(step.target, (0, 2 - step.target.shape[1])) for step in steps], dim=-1)
    assert torch.equal(found, captions[:, :, 1:])
