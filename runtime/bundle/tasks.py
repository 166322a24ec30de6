"""What a bundle can be for: its task, the documents and graphs that this takes, and the version that first read it.

A captioner's graphs, by the names of their tensors, so that one search serves every architecture:

- ``encoder``: ``image`` -> ``memory.*``, made once a photo, and ``state.*``, the first state. What of a state is absent
  begins as zeros.
- ``decoder_step``: ``token``, ``memory.*``, ``state.*`` -> ``log_probs``, ``next.*`` for each ``state.*``, and
  optionally ``attention``.

Axes: N photos, K live hypotheses of each photo, V words, L locations of the photo. An encoder's tensors begin with the
axis of photos, ``state.*`` of a step with (N, K), ``log_probs`` are (N, K, V) and ``attention`` is (N, K, L).
Of dims a captioner needs ``image_size`` and ``vocab_size``; ``locations`` says how many places ``attention`` has, and
``max_length`` how many words a state of fixed size holds.

A labeller has one graph, ``encoder``: ``image`` -> ``embedding`` (N, E), which need not be of length 1. Its dims are
``image_size`` and ``embedding_dim``, which is E; its table of labels has vectors of that size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgecap.runtime.bundle.entries import GraphEntry, TensorSpec
from edgecap.runtime.bundle.versions import version_numbers

IMAGE, TOKEN, LOG_PROBS, ATTENTION = "image", "token", "log_probs", "attention"
EMBEDDING = "embedding"
MEMORY, STATE, NEXT = "memory.", "state.", "next."  # prefixes of names
RGB = 3  # channels

Dims = Mapping[str, int]  # sizes that graphs and documents share, by name
Graphs = Mapping[str, GraphEntry]  # of a set, by role


@dataclass(frozen=True)
class Task:
    """What a bundle of a task holds; ``check`` raises ``ValueError`` for a set whose graphs do not fit each other."""

    documents: tuple[str, ...]  # roles of the files that it needs, one of each
    optional_documents: tuple[str, ...]  # at most one of each
    graphs: tuple[str, ...]  # the roles of a set
    dims: tuple[str, ...]  # that it needs; others may be there
    check: Callable[[Graphs, Dims], None]
    since: str  # the first version that reads it
    noun: str  # what people call such a bundle
    answers: str  # what it makes of photos
    done: str  # what is done to a photo
    use: str  # how it is used


def check_captioner(graphs: Graphs, dims: Dims) -> None:
    """Whether an encoder and a decoder step are those of a captioner. Raises ``ValueError``."""
    encoder, step = graphs["encoder"], graphs["decoder_step"]
    made, given, told = (_by_name(tensors) for tensors in (encoder.outputs, step.inputs, step.outputs))
    _same("the encoder's inputs", {tensor.name for tensor in encoder.inputs}, {IMAGE})
    strange = [name for name in made if not name.startswith((MEMORY, STATE))]
    if strange or not any(name.startswith(MEMORY) for name in made):
        raise ValueError(f"the encoder's outputs must be {MEMORY}* and {STATE}*, not {sorted(made)}")
    memory = {name for name in made if name.startswith(MEMORY)}
    state = {name for name in given if name.startswith(STATE)}
    _same("the decoder step's inputs", set(given), {TOKEN} | memory | state)
    _same("the decoder step's outputs", set(told) - {ATTENTION}, {LOG_PROBS, *(_next(name) for name in state)})
    for name in sorted(made):
        if name not in given:
            raise ValueError(f"the encoder makes {name}, which the decoder step does not take")
        _fits(made[name], given[name], skipped=1 if name.startswith(MEMORY) else 2)
    for name in sorted(state):
        _fits(told[_next(name)], given[name], skipped=2)
    if len(told[LOG_PROBS].shape) != 3 or told[LOG_PROBS].shape[2] != dims["vocab_size"]:
        raise ValueError(f"{LOG_PROBS} is {told[LOG_PROBS].shape}, of {dims['vocab_size']} words by its dims")


def check_labeller(graphs: Graphs, dims: Dims) -> None:
    """Whether an encoder is that of a labeller. Raises ``ValueError``."""
    encoder = graphs["encoder"]
    _same("the encoder's inputs", {tensor.name for tensor in encoder.inputs}, {IMAGE})
    _same("the encoder's outputs", {tensor.name for tensor in encoder.outputs}, {EMBEDDING})
    (image,), (embedding,) = encoder.inputs, encoder.outputs
    side, width = dims["image_size"], dims["embedding_dim"]
    if image.shape[1:] not in ((RGB, side, side), (side, side, RGB)):
        raise ValueError(f"{IMAGE} is {image.shape}, of photos of {side} x {side} pixels by its dims")
    if len(embedding.shape) != 2 or embedding.shape[1] != width:
        raise ValueError(f"{EMBEDDING} is {embedding.shape}, of {width} values by its dims")


def _next(state: str) -> str:
    return NEXT + state.removeprefix(STATE)


def _by_name(tensors: tuple[TensorSpec, ...]) -> dict[str, TensorSpec]:
    return {tensor.name: tensor for tensor in tensors}


def _same(what: str, found: set[str], wanted: set[str]) -> None:
    if found != wanted:
        raise ValueError(f"{what} are {sorted(found)}, not {sorted(wanted)}")


def _fits(made: TensorSpec, taken: TensorSpec, skipped: int) -> None:
    """Whether the axes after the first ``skipped`` of what is taken are the last of what is made."""
    wanted = taken.shape[skipped:]
    if len(taken.shape) < skipped or made.shape[len(made.shape) - len(wanted) :] != wanted:
        raise ValueError(f"{made.name} is {made.shape}, which does not fit the {taken.shape} of {taken.name}")


CAPTION, LABEL = "caption", "label"
TASKS = {
    CAPTION: Task(
        documents=("preprocess", "vocab", "generation"),
        optional_documents=("confidence",),
        graphs=("encoder", "decoder_step"),
        dims=("image_size", "vocab_size"),
        check=check_captioner,
        since="0.1.0",
        noun="captioner",
        answers="captions",
        done="captioned",
        use="edgecap caption, or load() in Python",
    ),
    LABEL: Task(
        documents=("preprocess", "labels"),
        optional_documents=(),
        graphs=("encoder",),
        dims=("image_size", "embedding_dim"),
        check=check_labeller,
        since="0.1.0",
        noun="labeller",
        answers="labels",
        done="labelled",
        use="edgecap label, or load_labeller() in Python",
    ),
}
# Whose graphs this version was tried with, and the version that first was. Nothing else here depends on them.
ARCHITECTURES = {"lstm": "0.1.0", "labels": "0.1.0"}


def least_runtime(task: str, architecture: str) -> str:
    """The lowest version that reads a bundle of these features, whatever version makes it."""
    return max(TASKS[task].since, ARCHITECTURES[architecture], key=version_numbers)
