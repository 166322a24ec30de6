"""Captions by task teachers for photos that have none, or one, to be learnt from as those of people are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from edgecap.architectures.defaults import default_generation
from edgecap.data.augmentation import WHOLE
from edgecap.data.karpathy import CaptionedPhoto
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.machine.atomic_write import write_atomically
from edgecap.training.config import TrainConfig
from edgecap.training.report.progress import progress
from edgecap.training.sources.feature_cache import encoded_at_once, feature_key, filled, photo_facts
from edgecap.training.sources.photos import Photos
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.stages.drawing import draw_captions
from edgecap.training.teachers.task_teacher import TaskTeacher

Captions = list[list[list[str]]]  # of each photo some, each its words


def with_pseudo_captions(
    data: TrainingData, teacher: TaskTeacher | None, config: TrainConfig, cache: Path
) -> TrainingData:
    """The data with the unlabelled photos, captioned, and more captions of those that have one, if it is asked for."""
    if teacher is None or not config.pseudo_captions:
        return data
    unlabelled = data.unlabelled
    lonely = [number for number, photo in enumerate(data.train) if len(photo.captions) == 1]
    paths = [*unlabelled, *(data.train[number].path for number in lonely)]
    found = [tuple(map(tuple, captions)) for captions in _captions(paths, data, teacher, config, cache)]
    train = list(data.train)
    for number, captions in zip(lonely, found[len(unlabelled) :], strict=True):
        own = train[number].captions
        train[number] = replace(train[number], captions=tuple(dict.fromkeys((*own, *captions))))
    captioned = [
        CaptionedPhoto(path.name, path, captions or ((),))  # if they find no words for it, that it has none
        for path, captions in zip(unlabelled, found[: len(unlabelled)], strict=True)
    ]
    return replace(data, train=tuple(train), captioned_by_teachers=tuple(captioned), by_people=data.train)


def _captions(
    paths: Sequence[Path], data: TrainingData, teacher: TaskTeacher, config: TrainConfig, cache: Path
) -> Captions:
    """Of each photo ``config.pseudo_captions`` drawn captions, equal ones once; cached as JSON."""
    recipe = (config.pseudo_captions, config.pseudo_temperature, config.max_words, config.seed, config.precision)
    path = cache / f"{feature_key(teacher.key, *recipe, photo_facts(paths))}-captions.json"
    if path.exists():
        known: Captions = json.loads(path.read_bytes())
        return known
    found: Captions = []
    with progress("captioning photos", len(paths)) as bar, torch.random.fork_rng():
        torch.manual_seed(config.seed)
        at_once = encoded_at_once()
        for start in range(0, len(paths), at_once):
            some = paths[start : start + at_once]
            found += _drawn(some, data.photos, data.vocabulary, teacher, config)
            bar.update(len(some))
    cache.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as partial:
        partial.write_text(json.dumps(found))
    return found


def _drawn(
    paths: Sequence[Path], photos: Photos, vocabulary: Vocabulary, teacher: TaskTeacher, config: TrainConfig
) -> Captions:
    images = photos.images(paths, [WHOLE] * len(paths), teacher.preprocess)
    features = [own[: len(paths)] for own in teacher.live(filled(images), teacher.preprocess)]
    marks = default_generation(vocabulary).suppressed_tokens
    drawn = draw_captions(
        teacher.models,
        features,
        vocabulary,
        config.pseudo_captions,
        config.max_words,
        temperature=config.pseudo_temperature,
        never=[vocabulary.unk_id, *vocabulary.encode(marks)],
    )
    return [[list(words) for words in dict.fromkeys(map(vocabulary.words, photo)) if words] for photo in drawn]
