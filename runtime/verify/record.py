"""What one known photo gives: recorded at export, so that a device can check itself against it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from edgecap.runtime.bundle.generation import DecodingOptions
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.engines.engine import Backend, FloatArray
from edgecap.runtime.search.decoding import decode

SAMPLES = 64  # values kept of each large tensor, evenly spaced


def golden_record(
    backend: Backend, image: FloatArray, vocabulary: Vocabulary, default: DecodingOptions
) -> dict[str, Any]:
    """What a backend makes of the photo's tensor (1, 3, S, S): samples of each graph's outputs, and captions.

    ``log_probs`` and ``alpha`` are those of the first step, whole; captions are of greedy search and of ``default``.
    """
    encoded = backend.encode(image)
    start = np.full((1, 1), vocabulary.start_id, np.int64)  # (1, 1)
    step = backend.step(start, encoded.h0[:, None], encoded.c0[:, None], encoded.features, encoded.keys)
    tensors = {name: samples(value) for name, value in vars(encoded).items()}
    tensors |= {"log_probs": _rounded(step.log_probs), "alpha": _rounded(step.alpha)}
    captions = {}
    for name, options in (("greedy", replace(default, beam=1)), ("beam", default)):
        best = decode(backend, encoded, vocabulary, options)[0][0]
        captions[name] = {
            "beam": options.beam,
            "caption": vocabulary.sentence(best.token_ids),
            "log_prob": round(best.log_prob, 5),
        }
    return {"engine": backend.name, "tensors": tensors, "captions": captions}


def samples(tensor: FloatArray) -> list[float]:
    """At most :data:`SAMPLES` values of a tensor, evenly spaced in C order."""
    return _rounded(tensor.ravel()[:: max(1, tensor.size // SAMPLES)][:SAMPLES])


def _rounded(tensor: FloatArray) -> list[float]:
    return [round(float(value), 5) for value in tensor.ravel()]


def tensor_digest(image: FloatArray) -> str:
    """SHA-256 of a tensor's float32 bytes, little-endian, in C order."""
    return hashlib.sha256(np.ascontiguousarray(image, dtype="<f4").tobytes()).hexdigest()
