"""Captioners that teach words: their distributions, together, and their captions of photos that have none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_dataset import write_photos, write_tiny_dataset
from training_runs import PLAIN, log_rows

from edgecap.architectures.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgecap.architectures.defaults import preprocess_config
from edgecap.architectures.ensemble_engine import EnsembleEngine
from edgecap.architectures.lstm.dims import ModelDims
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.registry import preset_dims
from edgecap.architectures.torch_engine import TorchEngine
from edgecap.data.karpathy import CaptionDataset, build_vocabulary, load_dataset
from edgecap.errors import CheckpointError, ConfigError
from edgecap.metrics.split import image_tensor
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.engines.engine import Arrays, Encoded
from edgecap.training.config import TrainConfig
from edgecap.training.run import train_run
from edgecap.training.sources.batches import EpochOrder
from edgecap.training.sources.captions import Captions, pad_captions
from edgecap.training.sources.fixed_views import FixedViews
from edgecap.training.sources.photos import PhotoFiles
from edgecap.training.sources.pseudo_captions import with_pseudo_captions
from edgecap.training.sources.source import Source
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.sources.views import PhotosInViews
from edgecap.training.stages.losses import SoftTargets
from edgecap.training.teachers.task_teacher import TaskTeacher

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def write_captioner(path: Path, vocabulary: Vocabulary, seed: int, preset: str = "plus", width: int = 8) -> ModelDims:
    """A narrow captioner with random weights."""
    torch.manual_seed(seed)
    sizes = {"attention_dim": width, "hidden_dim": width, "embedding_dim": width}
    dims = preset_dims(preset, len(vocabulary), projection=(width,), **sizes)
    weights = dict(CaptionModel(dims).state_dict())
    save_checkpoint(path, Checkpoint(dims, vocabulary, weights, {}, {}, {}, {}), half=False)
    return dims


@pytest.fixture(scope="module")
def vocabulary(dataset: CaptionDataset) -> Vocabulary:
    return build_vocabulary(dataset.split("train"), 1)


@pytest.fixture(scope="module")
def paths(vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("captioners")
    for number, width in enumerate((8, 12)):
        write_captioner(folder / f"{number}.safetensors", vocabulary, number, width=width)
    return [folder / "0.safetensors", folder / "1.safetensors"]


def test_captioners_teach_the_mean_of_their_probabilities(
    paths: list[Path], dataset: CaptionDataset, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    photos = dataset.split("train")[:3]
    captions = pad_captions([photo.captions for photo in photos], vocabulary, 20)
    config = TrainConfig(precision="fp32")
    teacher = TaskTeacher(paths, vocabulary, config)
    images = torch.from_numpy(image_tensor([photo.path for photo in photos], teacher.preprocess))
    found = teacher.distributions(teacher.live(images, teacher.preprocess), captions)
    with torch.no_grad():
        one, two = (model.forced_words(model.encoder(images), captions).log_probs.exp() for model in teacher.models)
    assert len(found) == int((captions[..., 1:] != 0).sum())
    torch.testing.assert_close(found, (one + two) / 2, rtol=1e-4, atol=1e-6)
    # A student that wants its photos normalised otherwise has the same teachers.
    other = preprocess_config(preset_dims("base", 8))
    others = torch.from_numpy(image_tensor([photo.path for photo in photos], other))
    for one, two in zip(teacher.live(images, teacher.preprocess), teacher.live(others, other), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
    teacher.prepare(
        tmp_path, [[photos[0].path], [photo.path for photo in photos[1:]]], FixedViews.of(config, 2, PhotoFiles())
    )
    cached = teacher.cached(np.arange(3), np.zeros(3, np.int64))
    assert [known.dtype for known in cached] == [torch.float16] * 2
    for one, two in zip(teacher.live(images, teacher.preprocess), cached, strict=True):
        torch.testing.assert_close(one, two.float(), rtol=2e-3, atol=2e-3)  # cached as float16


def test_a_teacher_with_other_words_or_photos_is_refused(
    paths: list[Path], vocabulary: Vocabulary, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"0\.safetensors: cannot teach words: its vocabulary is another"):
        TaskTeacher(paths, Vocabulary((*vocabulary.tokens, "zebra")), TrainConfig())
    write_captioner(tmp_path / "base.safetensors", vocabulary, 0, preset="base")
    with pytest.raises(CheckpointError, match=r"base\.safetensors: prepares photos otherwise"):
        TaskTeacher([paths[0], tmp_path / "base.safetensors"], vocabulary, TrainConfig())


def first_state(encoded: Encoded) -> Arrays:
    """The state before the first word, of one hypothesis a photo."""
    return {name: value[:, None] for name, value in encoded.state.items()}


def test_captioners_caption_together(paths: list[Path], dataset: CaptionDataset, vocabulary: Vocabulary) -> None:
    teacher = TaskTeacher(paths, vocabulary, TrainConfig())
    images = image_tensor([photo.path for photo in dataset.split("val")[:2]], teacher.preprocess)
    both, apart = EnsembleEngine(teacher.models), [TorchEngine(model) for model in teacher.models]
    encoded, own = both.encode(images), [member.encode(images) for member in apart]
    token = np.full((2, 1), vocabulary.start_id, np.int64)
    state, states = first_state(encoded), [first_state(part) for part in own]
    for _ in range(3):
        step = both.step(token, state, encoded.memory)
        parts = zip(apart, states, own, strict=True)
        alone = [member.step(token, before, part.memory) for member, before, part in parts]
        mean = np.log(np.mean([np.exp(part.log_probs) for part in alone], axis=0))
        np.testing.assert_allclose(step.log_probs, mean, rtol=1e-4, atol=1e-5)
        state, states = step.state, [part.state for part in alone]
        assert set(state) == {f"{n}.{name}" for n, part in enumerate(states) for name in part}
        for n, part in enumerate(states):
            for name, value in part.items():
                np.testing.assert_allclose(state[f"{n}.{name}"], value, atol=1e-6)
        token = step.log_probs.argmax(axis=-1)


def test_a_captioner_that_another_run_cached_is_found_again(
    paths: list[Path], dataset: CaptionDataset, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside whichever others, with another decoder, and in half precision as the best checkpoint of a run is."""
    config = TrainConfig()
    views, groups = FixedViews.of(config, 2, PhotoFiles()), [[photo.path for photo in dataset.split("train")[:2]]]
    first = load_checkpoint(paths[0])
    torch.manual_seed(9)
    fresh = {name: torch.randn_like(t) if name.startswith("decoder") else t for name, t in first.weights.items()}
    save_checkpoint(tmp_path / "half.safetensors", replace(first, weights=fresh), half=True)
    cache, rows = tmp_path / "cache", (np.array([1, 0]), np.array([0, 1]))
    both = TaskTeacher(paths, vocabulary, config)
    both.prepare(cache, groups, views)
    assert len(list(cache.glob("*.npy"))) == 2 * 2  # of each captioner and view
    alone = TaskTeacher([tmp_path / "half.safetensors"], vocabulary, config)

    def computed(*arguments: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(alone.models[0].encoder, "grid", computed)
    alone.prepare(cache, groups, views)
    assert len(list(cache.glob("*.npy"))) == 2 * 2
    assert torch.equal(alone.cached(*rows)[0], both.cached(*rows)[0])


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_soft_targets_are_reached_where_the_student_says_the_same(temperature: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 7, dtype=torch.float64, requires_grad=True)  # (M, V)
    wanted = torch.randn(6, 7, dtype=torch.float64).softmax(-1)
    ours, theirs = (logits / temperature).log_softmax(-1), (wanted.log() / temperature).softmax(-1)
    expected = -(theirs * ours).sum(-1) * temperature**2
    torch.testing.assert_close(SoftTargets(wanted, 0.5, temperature).distances(logits.log_softmax(-1)), expected)
    SoftTargets(logits.detach().softmax(-1), 0.5, temperature).distances(logits.log_softmax(-1)).sum().backward()
    assert logits.grad is not None and logits.grad.abs().max() < 1e-12


def test_photos_without_captions_get_the_teachers(paths: list[Path], dataset: CaptionDataset, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 5)
    teachers = ",".join(map(str, paths))
    overrides = {
        **PLAIN,
        "task_teachers": teachers,
        "unlabelled": str(photos),
        "pseudo_captions": 3,
        "frozen.epochs": 1,
        "self_critical.epochs": 1,
    }
    train_run(dataset, tmp_path / "run", overrides=overrides, say=lambda line: None)
    (file,) = (tmp_path / "run" / "cache").glob("*-captions.json")
    captions = json.loads(file.read_text())
    assert len(captions) == 5  # in the order of the photos; those of train have captions of people
    assert all(1 <= len(drawn) <= 3 and all(drawn) for drawn in captions)
    assert all(len({tuple(words) for words in drawn}) == len(drawn) for drawn in captions)
    steps = [row["stage"] for row in log_rows(tmp_path / "run") if row["loss"]]
    assert steps.count("frozen") == 6  # 16 photos and 5, by 4
    assert steps.count("self_critical") == 4  # no reward for what teachers said


def test_photos_of_train_with_one_caption_get_more(
    paths: list[Path], dataset: CaptionDataset, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(task_teachers="two", pseudo_captions=3, precision="fp32")
    teacher = TaskTeacher(paths, vocabulary, config)
    train = tuple(
        replace(photo, captions=photo.captions[:count])
        for photo, count in zip(dataset.split("train")[:5], (1, 5, 1, 2, 1), strict=True)
    )
    unlabelled = tuple(sorted(write_photos(tmp_path / "photos", 2).iterdir()))
    given = TrainingData(train, dataset.split("val"), vocabulary, teacher.preprocess, unlabelled=unlabelled)
    state = torch.get_rng_state()
    data = with_pseudo_captions(given, teacher, config, tmp_path / "cache")
    assert torch.equal(torch.get_rng_state(), state)  # what is learnt next does not depend on the drawing
    assert data.by_people == train and data.val == given.val
    for before, after in zip(train, data.train, strict=True):
        assert replace(after, captions=before.captions) == before
        if len(before.captions) > 1:
            assert after == before
        else:
            own, *more = after.captions
            assert own == before.captions[0] and 1 <= len(more) <= 3 and len(set(more)) == len(more)
            assert {word for words in more for word in words} <= set(vocabulary.tokens[4:])
    assert [photo.path for photo in data.captioned_by_teachers] == list(unlabelled)
    assert [photo.captions for photo in data.learnt[5:]] == [photo.captions for photo in data.captioned_by_teachers]

    def drawn(*arguments: object, **how: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr("edgecap.training.sources.pseudo_captions.draw_captions", drawn)
    assert with_pseudo_captions(given, teacher, config, tmp_path / "cache") == data
    with pytest.raises(AssertionError, match="drawn again"):
        with_pseudo_captions(given, teacher, replace(config, pseudo_temperature=1.0), tmp_path / "cache")
    assert with_pseudo_captions(given, teacher, replace(config, pseudo_captions=0), tmp_path) is given


def test_a_photo_that_teachers_find_no_words_for_has_an_empty_caption(
    paths: list[Path], dataset: CaptionDataset, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(task_teachers="two", pseudo_captions=3, precision="fp32")
    teacher = TaskTeacher(paths, vocabulary, config)
    monkeypatch.setattr(
        "edgecap.training.sources.pseudo_captions.draw_captions",
        lambda models, features, *arguments, **how: [[[vocabulary.end_id]] * 3 for _ in features[0]],
    )
    train = tuple(replace(photo, captions=photo.captions[:1]) for photo in dataset.split("train")[:2])
    unlabelled = tuple(sorted(write_photos(tmp_path / "photos", 2).iterdir()))
    given = TrainingData(train, (), vocabulary, teacher.preprocess, unlabelled=unlabelled)
    data = with_pseudo_captions(given, teacher, config, tmp_path / "cache")
    assert data.train == train
    captions = Captions(data.learnt, vocabulary, 20).of(np.array([2, 3]))
    assert captions.tolist() == [[[vocabulary.start_id, vocabulary.end_id]]] * 2


def test_end_to_end_the_photos_come_in_the_views_that_the_teachers_know(
    paths: list[Path], dataset: CaptionDataset, tmp_path: Path
) -> None:
    overrides = {**PLAIN, "task_teachers": str(paths[0]), "frozen.epochs": 0, "end_to_end.epochs": 1}
    for views in (0, 2):
        folder = tmp_path / str(views)
        train_run(dataset, folder, overrides={**overrides, "task_views": views}, say=lambda line: None)
        assert len(list((folder / "cache").glob("*.npy"))) == views
        assert [row["stage"] for row in log_rows(folder) if row["loss"]] == ["end_to_end"] * 4


def test_a_fixed_view_is_what_its_cached_features_are_of(
    paths: list[Path], dataset: CaptionDataset, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    config = TrainConfig(task_teachers="two", task_views=3, precision="fp32")
    teacher = TaskTeacher(paths, vocabulary, config)
    student = CaptionModel(preset_dims("base", len(vocabulary)))
    train = dataset.split("train")
    data = TrainingData(train[:6], (), vocabulary, preprocess_config(student.dims), train[6:9])
    views = PhotosInViews(config, student, data, FixedViews.of(config, config.task_views, data.photos))
    source = Source(data, views, Captions(data.learnt, vocabulary, config.max_words), task_teacher=teacher)
    source.prepare(tmp_path)
    for batch in source.batches(EpochOrder(1, 1, 0, 4, 9)):
        live = teacher.live(batch.inputs, data.preprocess)
        for cached, seen in zip(source.task_features(batch), live, strict=True):
            torch.testing.assert_close(cached, seen, rtol=1e-2, atol=1e-2)  # cached as float16


def test_task_views_are_for_task_teachers() -> None:
    with pytest.raises(ConfigError, match="task_views need task_teachers"):
        TrainConfig(task_views=2)


def test_a_teacher_and_task_teachers_know_the_same_views(
    paths: list[Path], dataset: CaptionDataset, tmp_path: Path
) -> None:
    """With features of its own of the views that the photos come in; without these, of its own views."""
    overrides = {
        **PLAIN,
        "teacher": f"captioner:{paths[0]}",
        "alpha": 0.5,
        "spatial": 0.1,
        "task_teachers": str(paths[1]),
        "frozen.epochs": 0,
        "end_to_end.epochs": 1,
    }
    for views, files in ((0, 2 + 1), (2, 2 + 2)):  # the teacher's two views and val; or two views of each teacher's
        folder = tmp_path / str(views)
        train_run(dataset, folder, overrides={**overrides, "task_views": views}, say=lambda line: None)
        assert len(list((folder / "cache").glob("*.npy"))) == files
        assert [row["stage"] for row in log_rows(folder) if row["loss"]] == ["end_to_end"] * 4


def test_photos_need_a_teacher_to_be_captioned(tmp_path: Path) -> None:
    data = load_dataset(write_tiny_dataset(tmp_path / "tiny", train=4, val=1))
    with pytest.raises(ConfigError, match="pseudo_captions need task_teachers"):
        train_run(data, tmp_path / "run", overrides={**PLAIN, "pseudo_captions": 3}, say=lambda line: None)
    assert not (tmp_path / "run").exists()
