"""What one public-domain photo gives, kept in the bundle so that a device can check itself against it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.resources import files
from typing import Any

import numpy as np

from edgecap.runtime.backend import Backend, FloatArray
from edgecap.runtime.decoding import decode
from edgecap.runtime.generation import DecodingOptions
from edgecap.runtime.vocabulary import Vocabulary

PHOTO = "astronaut.png"  # Eileen Collins, NASA, 1999: public domain; 256 x 256, from scikit-image's data
CREDIT = "NASA, portrait of astronaut Eileen Collins, 1999; public domain"


def golden_photo() -> bytes:
    """The photo, a PNG: every decoder gives the same pixels."""
    return files("edgecap.export").joinpath(PHOTO).read_bytes()


def golden_record(
    backend: Backend, image: FloatArray, vocabulary: Vocabulary, default: DecodingOptions
) -> dict[str, Any]:
    """What a backend makes of the photo's tensor (1, 3, S, S): first-step log-probabilities and captions."""
    encoded = backend.encode(image)
    start = np.full((1, 1), vocabulary.start_id, np.int64)
    step = backend.step(start, encoded.h0[:, None], encoded.c0[:, None], encoded.features, encoded.keys)
    captions = {}
    for name, options in (("greedy", replace(default, beam=1)), ("beam", default)):
        best = decode(backend, encoded, vocabulary, options)[0][0]
        captions[name] = {
            "beam": options.beam,
            "caption": vocabulary.sentence(best.token_ids),
            "log_prob": round(best.log_prob, 5),
        }
    return {"first_step_log_probs": [round(float(value), 5) for value in step.log_probs[0, 0]], "captions": captions}


def tensor_digest(image: FloatArray) -> str:
    """SHA-256 of a tensor's float32 bytes, little-endian, in C order."""
    return hashlib.sha256(np.ascontiguousarray(image, dtype="<f4").tobytes()).hexdigest()
