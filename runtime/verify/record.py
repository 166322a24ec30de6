"""What one known photo gives: recorded at export, so that a device can check itself against it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.generation import DecodingOptions
from edgecap.runtime.bundle.tasks import ATTENTION, EMBEDDING, LABEL, LOG_PROBS, MEMORY, STATE
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.engines.engine import Embedder, Engine, FloatArray, Loaded
from edgecap.runtime.labels.table import LabelTable
from edgecap.runtime.labels.vectors import unit_vectors
from edgecap.runtime.labels.wanted import whole
from edgecap.runtime.search.decoding import decode

SAMPLES = 64  # values kept of each large tensor, evenly spaced
LABELS = 10  # kept of a labeller's: more than are compared, so that those that come close are known


def golden_record(
    engine: Engine, image: FloatArray, vocabulary: Vocabulary, default: DecodingOptions
) -> dict[str, Any]:
    """What an engine makes of the photo's tensor (1, 3, S, S): samples of each graph's outputs, and captions.

    ``log_probs`` and ``attention`` are those of the first step, whole; captions are of greedy search and of
    ``default``.
    """
    encoded = engine.encode(image)
    start = np.full((1, 1), vocabulary.start_id, np.int64)  # (1, 1)
    step = engine.step(start, {name: value[:, None] for name, value in encoded.state.items()}, encoded.memory)
    tensors = {MEMORY + name: samples(value) for name, value in encoded.memory.items()}
    tensors |= {STATE + name: samples(value) for name, value in encoded.state.items()}
    if step.attention is not None:
        tensors[ATTENTION] = _rounded(step.attention)
    tensors[LOG_PROBS] = _rounded(step.log_probs)
    captions = {}
    for name, options in (("greedy", replace(default, beam=1)), ("beam", default)):
        best = decode(engine, encoded, vocabulary, options)[0][0]
        captions[name] = {
            "beam": options.beam,
            "caption": vocabulary.sentence(best.token_ids),
            "log_prob": round(best.log_prob, 5),
        }
    return {"engine": engine.name, "tensors": tensors, "captions": captions}


def label_record(embedder: Embedder, image: FloatArray, table: LabelTable) -> dict[str, Any]:
    """What a labeller's engine makes of the photo's tensor (1, 3, S, S): its unit vector, whole, and nearest labels."""
    vectors = unit_vectors(embedder.embed(image), "the graph")  # (1, E)
    nearest = replace(whole(table), slopes=np.ones(len(table), np.float32), intercepts=np.zeros(len(table), np.float32))
    labels = nearest.of(vectors[0], LABELS, 0.0)
    return {
        "engine": embedder.name,
        "tensors": {EMBEDDING: _rounded(vectors)},
        "labels": {label.name: round(label.similarity, 5) for label in labels},
    }


def record_of(bundle: Bundle, loaded: Loaded, image: FloatArray) -> dict[str, Any]:
    """The record of a graph set of ``bundle``, loaded, whatever its task is.

    Raises :class:`~edgecap.errors.EngineError`, and others for graphs whose sizes do not fit each other.
    """
    if bundle.manifest.task == LABEL:
        return label_record(cast(Embedder, loaded), image, bundle.labels)
    default = bundle.generation.options(bundle.vocabulary)
    return golden_record(cast(Engine, loaded), image, bundle.vocabulary, default)


def samples(tensor: NDArray[Any]) -> list[float]:
    """At most :data:`SAMPLES` values of a tensor, evenly spaced in C order."""
    return _rounded(tensor.ravel()[:: max(1, tensor.size // SAMPLES)][:SAMPLES])


def _rounded(tensor: NDArray[Any]) -> list[float]:
    return [round(float(value), 5) for value in tensor.ravel()]


def tensor_digest(image: FloatArray) -> str:
    """SHA-256 of a tensor's float32 bytes, little-endian, in C order."""
    return hashlib.sha256(np.ascontiguousarray(image, dtype="<f4").tobytes()).hexdigest()
