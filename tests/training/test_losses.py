"""What is minimised: cross-entropy, smoothed or not, the attention's penalty, and which words are fed in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lstm import lstm_step
from torch import Tensor
from torch.nn import functional as F

from edgecap.architectures.defaults import preprocess_config
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.registry import preset_dims
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.training.config import Distillation, TrainConfig
from edgecap.training.sources.batches import Batch, TeacherTensors
from edgecap.training.sources.fixed_views import FixedViews
from edgecap.training.sources.photos import PhotoFiles
from edgecap.training.sources.source import Source
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.sources.views import PhotosAnew
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


def one_by_one(model: CaptionModel, photos: list[list[list[int]]]) -> Iterator[tuple[Tensor, list[int]]]:
    """Of each caption alone: log-probabilities (T, V) and the words that follow, without padding."""
    features = features_of(len(photos))
    for n, photo in enumerate(photos):
        keys, h0, c0 = model.decoder.init_state(features[n : n + 1])
        for words in photo:
            h, c, rows = h0[:, None], c0[:, None], []
            for word in [START, *words]:
                log_probs, h, c, _ = lstm_step(model, torch.tensor([[word]]), h, c, features[n : n + 1], keys)
                rows.append(log_probs[0, 0])
            yield torch.stack(rows), [*words, END]


def terms_of(model: CaptionModel, photos: list[list[list[int]]], smoothing: float = 0.0) -> list[Term]:
    return terms_of_padded(model, features_of(len(photos)), padded(photos), smoothing)


def terms_of_padded(model: CaptionModel, features: Tensor, captions: Tensor, smoothing: float) -> list[Term]:
    return caption_terms(model.forced_words(features, captions), smoothing=smoothing)


def value(terms: list[Term]) -> float:
    return sum((term.weight * term.total / term.over).item() for term in terms)


@settings(max_examples=25, deadline=None)
@given(PHOTOS, st.sampled_from([0.0, 0.1, 0.7]))
def test_caption_terms_are_torchs_cross_entropy(
    model: CaptionModel, photos: list[list[list[int]]], smoothing: float
) -> None:
    with torch.inference_mode():
        terms = terms_of(model, photos, smoothing=smoothing)
        log_probs, targets = zip(*one_by_one(model, photos), strict=True)
        words = torch.tensor([word for caption in targets for word in caption])
        expected = F.cross_entropy(torch.cat(log_probs), words, label_smoothing=smoothing)
        plain = F.cross_entropy(torch.cat(log_probs), words)
    assert value(terms) == pytest.approx(expected.item(), abs=1e-4)
    assert terms[0].mean == pytest.approx(plain.item(), abs=1e-4)  # what the log shows has no smoothing
    assert all(term.over == len(words) for term in terms) and len(terms) == (2 if smoothing else 1)


@settings(max_examples=50, deadline=None)
@given(PHOTOS)
def test_forced_words_are_all_words_at_their_positions(model: CaptionModel, photos: list[list[list[int]]]) -> None:
    captions = padded(photos)
    with torch.inference_mode():
        log_probs, target, position, words = model.forced_words(features_of(len(photos)), captions)
    following = captions[..., 1:].flatten()
    assert torch.equal(position.sort().values, following.nonzero()[:, 0])  # each once
    assert torch.equal(target, following[position]) and log_probs.shape == (len(target), V) and words == len(target)
    step = position % (captions.shape[2] - 1)
    assert torch.equal(step, step.sort().values)  # all first words, then all second ones
    with torch.inference_mode():
        ordered = [sorted(photo, key=len, reverse=True) for photo in photos]
        expected = torch.cat([rows for rows, _ in one_by_one(model, ordered)])  # photo by photo
    torch.testing.assert_close(log_probs[position.argsort()], expected, rtol=1e-4, atol=1e-4)


def test_a_photo_with_fewer_captions_counts_for_those_that_it_has(model: CaptionModel) -> None:
    """The same as its captions and the other photo's apart, by their words."""
    photos = [[[5, 6, 7], [4]], [[8, 9]]]
    with torch.inference_mode():
        together = terms_of(model, photos, smoothing=0.1)
        features, captions = features_of(2), padded(photos)
        apart = [
            terms_of_padded(model, features[n : n + 1], rows[None], smoothing=0.1)
            for n, rows in ((0, captions[0]), (1, captions[1, :1]))
        ]
    for whole, *parts in zip(together, *apart, strict=True):
        assert whole.over == sum(part.over for part in parts)
        assert whole.total.item() == pytest.approx(sum(part.total.item() for part in parts), abs=1e-4)


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
    source = Source(data, PhotosAnew(config, model, data), None)
    stage = CaptionStage("end_to_end", config.end_to_end, config, model, data, source, head)
    with torch.no_grad():
        found = stage.loss(batch, 0.0)
        (words,) = caption_terms(model.forced_words(model.encoder(batch.inputs), batch.captions))
        by_location, whole = distances(model, head, batch)
    assert value(found) == pytest.approx(0.2 * words.mean + 0.05 * by_location + 0.6 * whole, rel=1e-4)
    assert found[0].mean == pytest.approx(words.mean, rel=1e-5)  # the log shows words without their weight
    with torch.no_grad():
        untaught = stage.loss(replace(batch, teacher=None), 0.0)
    assert value(untaught) == pytest.approx(words.mean, rel=1e-5)


def test_distillation_learns_locations_and_the_whole(model: CaptionModel) -> None:
    config, data, head, batch = taught(model)
    cache = TeacherCache(SmallTeacher(), [], [], FixedViews.of(config, 2, PhotoFiles()))  # type: ignore[arg-type]
    stage = DistillationStage(config.distillation, config, model, data, cache, head)
    with torch.no_grad():
        found = stage.loss(batch, 0.0)
        by_location, whole = distances(model, head, batch)
    assert value(found) == pytest.approx(by_location + 0.4 * whole, rel=1e-4)
    assert found[0].mean == pytest.approx(by_location, rel=1e-4)
