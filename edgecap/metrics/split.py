"""Captions of a split, decoded freely, and their scores: for a bundle and, while training, for a torch model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecap.data.karpathy import CaptionedPhoto
from edgecap.metrics import Quality, Scores, quality, score
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.engines.engine import Encoded, Engine, FloatArray
from edgecap.runtime.machine.facts import cpu_kind
from edgecap.runtime.photo.preprocess import PreprocessConfig, load_image, normalize
from edgecap.runtime.search.decoding import DecodingOptions, Hypothesis, decode
from edgecap.runtime.wording import counted

EVALUATION_BATCH = 50  # photos that share decoder steps


def image_tensor(paths: Iterable[Path], preprocess: PreprocessConfig) -> FloatArray:
    """Preprocessed photos, (N, 3, S, S) float32. Raises ``ImageError`` naming one that cannot be read."""
    return normalize(np.stack([np.asarray(load_image(path, preprocess)) for path in paths]), preprocess)


def encoded_photos(
    engine: Engine, photos: Sequence[CaptionedPhoto], preprocess: PreprocessConfig
) -> Iterator[tuple[Sequence[CaptionedPhoto], Encoded]]:
    """Photos in batches, with what the encoder makes of them."""
    for start in range(0, len(photos), EVALUATION_BATCH):
        batch = photos[start : start + EVALUATION_BATCH]
        yield batch, engine.encode(image_tensor([photo.path for photo in batch], preprocess))


def decode_batches(
    engine: Engine,
    batches: Iterable[tuple[Sequence[CaptionedPhoto], Encoded]],
    vocabulary: Vocabulary,
    options: DecodingOptions,
) -> dict[str, Hypothesis]:
    """The best hypothesis of every photo, by photo id."""
    best: dict[str, Hypothesis] = {}
    for photos, encoded in batches:
        hypotheses = decode(engine, encoded, vocabulary, options)
        best.update({photo.id: ranked[0] for photo, ranked in zip(photos, hypotheses, strict=True)})
    return best


def protocol_of(dataset: str, split: str, photos: int, options: DecodingOptions) -> dict[str, Any]:
    """What belongs beside every figure: the photos, how they were decoded, and the words that were compared."""
    return {
        "dataset": dataset,
        "split": split,
        "photos": photos,
        "beam": options.beam,
        "max_length": options.max_length,
        "length_penalty": options.length_penalty,
        "tokenizer": "Karpathy's tokens",
        "cpu": cpu_kind(),
    }


def protocol_text(protocol: Mapping[str, Any]) -> str:
    """A protocol in words, without the names of dataset and split; a labeller's has no search."""
    if "beam" not in protocol:
        return f"{counted(protocol['photos'], 'photo')}, on {protocol['cpu']}"
    return (
        f"{counted(protocol['photos'], 'photo')}, beam {protocol['beam']}, "
        f"at most {counted(protocol['max_length'], 'word')}, "
        f"length penalty {protocol['length_penalty']:g}, {protocol['tokenizer']}, on {protocol['cpu']}"
    )


def score_split(
    photos: Sequence[CaptionedPhoto],
    hypotheses: Mapping[str, Hypothesis],
    vocabulary: Vocabulary,
    *,
    extra: Collection[str] = (),
) -> Scores:
    """Scores of decoded captions against all captions of each photo; ``extra`` as of :func:`edgecap.metrics.score`."""
    return score(words_of(photos, hypotheses, vocabulary), references_of(photos), extra=extra)


def scores_by_dataset(
    photos: Sequence[CaptionedPhoto], hypotheses: Mapping[str, Hypothesis], vocabulary: Vocabulary
) -> dict[str, Scores]:
    """Scores of the photos of each dataset apart, as words that are rare in one are not in another."""
    apart: dict[str, list[CaptionedPhoto]] = {}
    for photo in photos:
        apart.setdefault(photo.dataset, []).append(photo)
    return {name: score_split(own, hypotheses, vocabulary) for name, own in apart.items()}


def quality_of_split(
    photos: Sequence[CaptionedPhoto],
    hypotheses: Mapping[str, Hypothesis],
    vocabulary: Vocabulary,
    train: Sequence[CaptionedPhoto] = (),
) -> Quality:
    """What :func:`edgecap.metrics.quality` tells of decoded captions; ``train`` are the photos of the train split."""
    trained_on = [caption for photo in train for caption in photo.captions]
    return quality(words_of(photos, hypotheses, vocabulary), references_of(photos), trained_on or None)


def words_of(
    photos: Sequence[CaptionedPhoto], hypotheses: Mapping[str, Hypothesis], vocabulary: Vocabulary
) -> dict[str, tuple[str, ...]]:
    """The words of each photo's caption, by photo id."""
    return {photo.id: vocabulary.words(hypotheses[photo.id].token_ids) for photo in photos}


def references_of(photos: Sequence[CaptionedPhoto]) -> dict[str, tuple[tuple[str, ...], ...]]:
    """The references of each photo, by photo id."""
    return {photo.id: photo.captions for photo in photos}
