"""Rewards against what is said of photos that look alike, and what teachers say, beside a photo's own captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_task_teacher import write_captioner
from training_runs import PLAIN, log_rows

from edgecap.data.karpathy import CaptionDataset, CaptionedPhoto, build_vocabulary
from edgecap.errors import ConfigError
from edgecap.metrics.cider import CiderD
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.training.config import TrainConfig
from edgecap.training.run import train_run
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.stages.neighbours import nearest, references_beside

pytestmark = pytest.mark.usefixtures("one_torch_thread")
SENTENCES = st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=6), min_size=1, max_size=3)


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 999))
def test_the_nearest_are_those_of_the_largest_cosine(photos: int, count: int, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(photos, 5)).astype(np.float32)
    found = nearest(features, count)
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = directions @ directions.T
    np.fill_diagonal(cosines, -2)
    assert found.shape == (photos, min(count, photos - 1))
    for photo, rows in enumerate(found):
        assert photo not in rows and len(set(rows)) == len(rows)
        expected = np.sort(cosines[photo])[::-1][: len(rows)]
        np.testing.assert_allclose(cosines[photo][rows], expected, atol=1e-5)


def test_what_people_say_of_neighbours_and_teachers_of_the_photo_stand_beside() -> None:
    people = tuple(CaptionedPhoto(name, Path(name), ((name, "here"),)) for name in "abc")
    train = (people[0], CaptionedPhoto("b", Path("b"), (*people[1].captions, ("drawn",))), people[2])
    data = TrainingData(train, (), Vocabulary(SPECIAL_TOKENS), PreprocessConfig((0.5,) * 3, (0.5,) * 3), ())
    found = references_beside(data, people, np.array([[1], [2], [0]]))
    assert found == {"a": [("b", "here")], "b": [("drawn",), ("c", "here")], "c": [("a", "here")]}


@settings(deadline=None)
@given(st.lists(SENTENCES, min_size=2, max_size=5), st.integers(0, 99))
def test_other_references_have_the_frequencies_of_the_first(photos: list[list[list[str]]], seed: int) -> None:
    references = {str(number): sentences for number, sentences in enumerate(photos)}
    said = {name: sentences[seed % len(sentences)] for name, sentences in references.items()}
    cider = CiderD(references)
    np.testing.assert_allclose(cider.against(references).score(said)[1], cider.score(said)[1])
    # A reference alone is the hypothesis: each order that weighs anything gives its full share.
    alone = cider.against({name: [sentence] for name, sentence in said.items()}).score(said)[1]
    assert (alone <= 10 + 1e-6).all() and (alone >= cider.score(said)[1] - 1e-6).all()


def test_a_run_is_rewarded_by_neighbours(dataset: CaptionDataset, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.safetensors"
    write_captioner(teacher, build_vocabulary(dataset.split("train"), 1), 0)
    plain = {**PLAIN, "frozen.epochs": 0, "self_critical.epochs": 1, "task_teachers": str(teacher)}
    losses = {}
    for count in (0, 3):
        folder = tmp_path / str(count)
        train_run(dataset, folder, overrides={**plain, "self_critical.neighbours": count}, say=lambda line: None)
        losses[count] = [row["loss"] for row in log_rows(folder) if row["loss"]]
        # The features of train's and val's photos and, of photos that are compared, what they look like.
        assert len(losses[count]) == 4 and all(row["stage"] == "self_critical" for row in log_rows(folder))
    assert losses[0][0] != losses[3][0]  # the same captions are drawn first, and rewarded otherwise


def test_neighbours_need_a_teacher() -> None:
    with pytest.raises(ConfigError, match="neighbours need task_teachers"):
        TrainConfig.from_json({"self_critical": {"neighbours": 3}})
