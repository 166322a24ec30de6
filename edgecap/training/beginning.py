"""What a run's model is before its first step: built anew, or a trained one, whose words those of the captions join."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgecap.architectures.architecture import Architecture
from edgecap.architectures.checkpoint import Checkpoint, load_checkpoint
from edgecap.architectures.dims import CaptionerDims
from edgecap.architectures.registry import architecture, preset_dims, presets
from edgecap.errors import CheckpointError
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.training.config import TrainConfig

DECODER = "decoder."  # how the names of its tensors begin


@dataclass(frozen=True)
class Beginning:
    """A model to be, and its words; ``weights`` are ``None`` for fresh ones."""

    architecture: Architecture
    dims: CaptionerDims
    vocabulary: Vocabulary
    weights: Mapping[str, Tensor] | None = None


def beginning(config: TrainConfig, words: Vocabulary) -> Beginning:
    """Of a new run whose captions have ``words``. Raises ``CheckpointError`` for one to start from, ``ConfigError``."""
    if config.start_from:
        start = load_checkpoint(Path(config.start_from), preset=config.preset)
        if config.decoder_from:
            start = with_decoder(start, load_checkpoint(Path(config.decoder_from)), Path(config.decoder_from))
        return of_checkpoint(grown_checkpoint(start, grown(start.vocabulary, words, config.max_vocabulary)))
    changes = {} if config.activation == "relu" else {"activation": config.activation}
    dims = preset_dims(config.preset, len(words), **changes)
    return Beginning(architecture(presets()[config.preset]), dims, words)


def of_checkpoint(checkpoint: Checkpoint) -> Beginning:
    """A trained model as it is."""
    return Beginning(architecture(checkpoint.architecture), checkpoint.dims, checkpoint.vocabulary, checkpoint.weights)


def knows(vocabulary: Vocabulary, words: Vocabulary, config: TrainConfig) -> bool:
    """Whether a run with this vocabulary was begun on captions with ``words``."""
    expected = grown(vocabulary, words, config.max_vocabulary) if config.start_from else words
    return expected.tokens == vocabulary.tokens


def with_decoder(start: Checkpoint, other: Checkpoint, path: Path) -> Checkpoint:
    """``start`` with the decoder and the words of ``other``. Raises ``CheckpointError`` for one of another shape."""
    dims: Any = start.dims
    theirs = {name: tensor for name, tensor in other.weights.items() if name.startswith(DECODER)}
    shapes = _shapes(start, len(other.vocabulary))
    if {name: tensor.shape for name, tensor in theirs.items()} != {
        name: shape for name, shape in shapes.items() if name.startswith(DECODER)
    }:
        raise CheckpointError(path, f"its decoder has another shape than that of the preset {start.dims.preset}")
    return dataclasses.replace(
        start,
        dims=dataclasses.replace(dims, vocab_size=len(other.vocabulary)),
        vocabulary=other.vocabulary,
        weights={**start.weights, **theirs},
    )


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
    longer = _shapes(start, start.dims.vocab_size + 1)
    for name, tensor in start.weights.items():
        if longer[name] != tensor.shape:
            yield name


def _shapes(start: Checkpoint, vocab_size: int) -> dict[str, torch.Size]:
    """Of the tensors of ``start``'s network, by name, if it had so many words."""
    dims: Any = start.dims
    with torch.device("meta"):
        network = architecture(start.architecture).network(dataclasses.replace(dims, vocab_size=vocab_size), 0)
    return {name: tensor.shape for name, tensor in network.state_dict().items()}
