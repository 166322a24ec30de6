"""Captions of the val split by each exported precision: the figures of ``eval.json`` and the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgecap.data.karpathy import CaptionedPhoto
from edgecap.evaluation import decode_batches, encoded_photos, score_split
from edgecap.runtime.backend import Backend
from edgecap.runtime.decoding import DecodingOptions, Hypothesis
from edgecap.runtime.preprocess import PreprocessConfig
from edgecap.runtime.vocabulary import Vocabulary


def evaluate(
    backends: Mapping[str, Backend],
    photos: Sequence[CaptionedPhoto],
    preprocess: PreprocessConfig,
    vocabulary: Vocabulary,
    options: DecodingOptions,
) -> dict[str, Any]:
    """Scores by precision; for each but fp32 also its change and the share of captions that stayed the same."""
    decoded = {
        precision: decode_batches(backend, encoded_photos(backend, photos, preprocess), vocabulary, options)
        for precision, backend in backends.items()
    }
    results: dict[str, Any] = {}
    for precision, hypotheses in decoded.items():
        results[precision] = score_split(photos, hypotheses, vocabulary).to_json()
        if precision != "fp32" and "fp32" in decoded:
            change = results[precision]["CIDEr-D"] - results["fp32"]["CIDEr-D"]
            same = _same_captions(hypotheses, decoded["fp32"])
            results[precision] |= {"CIDEr-D change": round(change, 4), "identical captions": round(same, 4)}
    return results


def _same_captions(hypotheses: Mapping[str, Hypothesis], others: Mapping[str, Hypothesis]) -> float:
    same = sum(hypotheses[photo].token_ids == others[photo].token_ids for photo in hypotheses)
    return same / len(hypotheses)
