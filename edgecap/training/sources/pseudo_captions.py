"""Captions by task teachers for photos that have none, to be learnt from as those of people are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecap.architectures.defaults import default_generation
from edgecap.architectures.ensemble_engine import EnsembleEngine
from edgecap.data.karpathy import CaptionedPhoto
from edgecap.metrics.split import EVALUATION_BATCH, encoded_photos
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.machine.atomic_write import write_atomically
from edgecap.runtime.search.decoding import decode
from edgecap.training.config import TrainConfig
from edgecap.training.plan import photos_of
from edgecap.training.progress import progress
from edgecap.training.sources.feature_cache import feature_key, photo_facts
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.teachers.task_teacher import TaskTeacher


def with_pseudo_captions(
    data: TrainingData, teacher: TaskTeacher | None, config: TrainConfig, cache: Path
) -> TrainingData:
    """The data with the unlabelled photos, captioned, if the configuration asks for them."""
    if teacher is None or not config.pseudo_captions:
        return data
    photos = photos_of(Path(config.unlabelled))
    return replace(data, captioned_by_teachers=_captioned(photos, teacher, data.vocabulary, config, cache))


def _captioned(
    photos: list[Path], teacher: TaskTeacher, vocabulary: Vocabulary, config: TrainConfig, cache: Path
) -> tuple[CaptionedPhoto, ...]:
    """Each photo with the best ``config.pseudo_captions`` hypotheses of the teachers' beam; cached as JSON."""
    options = replace(default_generation(vocabulary).options(vocabulary), n_best=config.pseudo_captions)
    path = cache / f"{feature_key(teacher.key, repr(options), config.precision, photo_facts(photos))}-captions.json"
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    if len(found) < len(photos):
        backend = EnsembleEngine(teacher.models, autocast=config.precision == "bf16")
        bare = [CaptionedPhoto(photo.name, photo, ()) for photo in photos]
        with progress("captioning unlabelled photos", len(photos)) as bar:
            for batch, encoded in encoded_photos(backend, bare, teacher.preprocess):
                for photo, ranked in zip(batch, decode(backend, encoded, vocabulary, options), strict=True):
                    found[photo.id] = [vocabulary.words(hypothesis.token_ids) for hypothesis in ranked]
                bar.update(min(EVALUATION_BATCH, len(batch)))
        cache.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as partial:
            partial.write_text(json.dumps(found))
    return tuple(CaptionedPhoto(photo.name, photo, tuple(map(tuple, found[photo.name]))) for photo in photos)
