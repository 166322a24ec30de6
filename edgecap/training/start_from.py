"""A run that starts from a trained captioner: its words and those that the new captions add, and its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgecap.architectures.checkpoint import Checkpoint, load_checkpoint
from edgecap.architectures.registry import architecture
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.training.config import TrainConfig


def started(config: TrainConfig, words: Vocabulary) -> Checkpoint | None:
    """The captioner that a run starts from, if its configuration names one, and with ``words`` beside its own.

    Raises ``CheckpointError``.
    """
    if not config.start_from:
        return None
    start = load_checkpoint(Path(config.start_from), preset=config.preset)
    return grown_checkpoint(start, grown(start.vocabulary, words, config.max_vocabulary))


def grown(known: Vocabulary, counted: Vocabulary, most: int) -> Vocabulary:
    """The words of ``known`` where they stand, and behind them those of ``counted`` that it lacks, most frequent first.

    With ``most`` above 0, so many tokens at most; those of ``known`` all stay.
    """
    new = [token for token in counted.tokens if token not in known.ids]
    if most:
        new = new[: max(0, most - len(known))]
    return dataclasses.replace(known, tokens=(*known.tokens, *new))


def grown_checkpoint(start: Checkpoint, vocabulary: Vocabulary) -> Checkpoint:
    """``start`` with a vocabulary that was grown from its own: its weights, and for new words the mean of the known.

    A word that nothing is known of is as likely as the mean of all, rather than as a random row makes it.
    """
    dims: Any = start.dims
    weights = dict(start.weights)
    for name in _of_words(start):
        rows = weights[name]  # (V, ...)
        mean = rows[len(SPECIAL_TOKENS) :].mean(dim=0, keepdim=True)  # (1, ...)
        added = len(vocabulary) - len(start.vocabulary)
        weights[name] = torch.cat([rows, mean.expand(added, *rows.shape[1:])])  # (V + added, ...)
    return dataclasses.replace(
        start,
        dims=dataclasses.replace(dims, vocab_size=len(vocabulary)),
        vocabulary=vocabulary,
        weights=weights,
    )


def _of_words(start: Checkpoint) -> Iterator[str]:
    """The tensors that have a row for each word: those that are longer in a network with one word more."""
    dims: Any = start.dims
    with torch.device("meta"):
        network = architecture(start.architecture).network(dataclasses.replace(dims, vocab_size=dims.vocab_size + 1), 0)
    longer: dict[str, Tensor] = network.state_dict()
    for name, tensor in start.weights.items():
        if longer[name].shape != tensor.shape:
            yield name
