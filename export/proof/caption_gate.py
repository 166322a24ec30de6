"""Captions of the val split by each set of graphs: the figures of ``eval.json`` and of the model card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgecap.data.karpathy import CaptionedPhoto
from edgecap.export.proof.set_result import DatasetResult, Difference, SetResult
from edgecap.export.recipe import CaptionGate
from edgecap.metrics import Scores
from edgecap.metrics.split import EVALUATION_BATCH, image_tensor, quality_of_split, score_split
from edgecap.runtime.bundle.entries import set_name
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.engines.engine import Engine
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.runtime.search.decoding import DecodingOptions, Hypothesis, decode

REFERENCE = "torch-fp32"


@dataclass(frozen=True)
class Captions:
    """Best hypotheses by photo id, of the default search and of greedy search."""

    beam: dict[str, Hypothesis] = field(default_factory=dict)
    greedy: dict[str, Hypothesis] = field(default_factory=dict)


def caption_photos(
    engines: Mapping[str, Engine],
    photos: Sequence[CaptionedPhoto],
    preprocess: PreprocessConfig,
    vocabulary: Vocabulary,
    options: DecodingOptions,
) -> dict[str, Captions]:
    """Captions by each engine, decoded freely, in batches of photos that are read once."""
    captions = {name: Captions() for name in engines}
    for start in range(0, len(photos), EVALUATION_BATCH):
        batch = photos[start : start + EVALUATION_BATCH]
        images = image_tensor([photo.path for photo in batch], preprocess)  # (N, 3, S, S)
        for name, engine in engines.items():
            encoded = engine.encode(images)
            for found, search in ((captions[name].beam, options), (captions[name].greedy, replace(options, beam=1))):
                ranked = decode(engine, encoded, vocabulary, search)
                found.update({photo.id: best for photo, (best, *_) in zip(batch, ranked, strict=True)})
    return captions


def compare(
    captions: Mapping[str, Captions],
    photos: Sequence[CaptionedPhoto],
    vocabulary: Vocabulary,
    gate: CaptionGate,
    train: Sequence[CaptionedPhoto] = (),
) -> dict[str, SetResult]:
    """Scores and quality by set of graphs, and how far its captions are from those of the set that it was made from.

    Of several datasets it is each one's and their mean.

    ``train`` are the photos of the train split, whose captions may have been learnt by heart. fp32 graphs are held
    against torch, other sets against the fp32 graphs of their engine; what is not among ``captions``, against nothing.
    """
    results: dict[str, SetResult] = {}
    for name, found in captions.items():  # torch first, and the fp32 graphs of an engine before its others
        apart = _apart(found.beam, photos, vocabulary, train)
        each = [own.scores for own in apart.values()]
        scores = Scores.mean(each) if len(each) > 1 else each[0]
        quality = quality_of_split(photos, found.beam, vocabulary, train)
        origin, difference = origin_of(name), None
        if origin is not None and origin in captions:
            change = round(scores.to_json()["CIDEr-D"] - results[origin].scores.to_json()["CIDEr-D"], 4)
            same = _identical(found.beam, captions[origin].beam)
            difference = Difference(
                against=origin,
                cider_d_change=change,
                identical=same,
                identical_greedy=_identical(found.greedy, captions[origin].greedy),
                first_diverging_step=_first_diverging_steps(found.beam, captions[origin].beam),
                passes_gate=-change <= gate.max_cider_drop and same >= _least_identical(name, gate),
            )
        results[name] = SetResult(scores, quality, difference, apart if len(apart) > 1 else {})
    return results


def _apart(
    found: Mapping[str, Hypothesis],
    photos: Sequence[CaptionedPhoto],
    vocabulary: Vocabulary,
    train: Sequence[CaptionedPhoto],
) -> dict[str, DatasetResult]:
    """By dataset, as words that are rare in one are not in another."""
    results = {}
    for dataset in dict.fromkeys(photo.dataset for photo in photos):
        own = [photo for photo in photos if photo.dataset == dataset]
        learnt = [photo for photo in train if photo.dataset == dataset]
        quality = quality_of_split(own, found, vocabulary, learnt)
        results[dataset] = DatasetResult(score_split(own, found, vocabulary), quality)
    return results


def origin_of(name: str) -> str | None:
    """The set that ``name`` is held against; torch against none."""
    if name == REFERENCE:
        return None
    engine, _, precision = name.partition("-")
    return REFERENCE if precision == "fp32" else set_name(engine, "fp32")


def _least_identical(name: str, gate: CaptionGate) -> float:
    return gate.min_identical if name.endswith(("-fp32", "-fp16")) else gate.int8_min_identical


def _identical(found: Mapping[str, Hypothesis], others: Mapping[str, Hypothesis]) -> float:
    same = sum(found[photo].token_ids == others[photo].token_ids for photo in found)
    return round(same / len(found), 4)


def _first_diverging_steps(found: Mapping[str, Hypothesis], others: Mapping[str, Hypothesis]) -> dict[str, int]:
    """How many captions part from the other's at their first, second, ... word; the end counts as a word."""
    steps = Counter(_first_difference(found[photo].token_ids, others[photo].token_ids) for photo in found)
    return {str(step): steps[step] for step in sorted(steps) if step}


def _first_difference(tokens: tuple[int, ...], others: tuple[int, ...]) -> int:
    """The first step, from 1, whose words differ; 0 when all are the same."""
    if tokens == others:
        return 0
    pairs = zip(tokens, others, strict=False)
    common = next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(tokens), len(others)))
    return common + 1
