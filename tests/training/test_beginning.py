"""Fine-tuning: a trained captioner's words and weights, and the words that it did not know."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from edgecap.architectures.checkpoint import Checkpoint
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.registry import preset_dims
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.training.beginning import grown, grown_checkpoint

KNOWN = Vocabulary((*SPECIAL_TOKENS, "a", "dog", "runs"))
COUNTED = Vocabulary((*SPECIAL_TOKENS, "a", "bus", "dog", "stops"))


def test_known_words_keep_their_ids() -> None:
    assert grown(KNOWN, COUNTED, 0).tokens == (*KNOWN.tokens, "bus", "stops")
    assert grown(KNOWN, COUNTED, 8).tokens == (*KNOWN.tokens, "bus")
    assert grown(KNOWN, COUNTED, 5) == grown(KNOWN, KNOWN, 0) == KNOWN
    assert grown(grown(KNOWN, COUNTED, 0), COUNTED, 0) == grown(KNOWN, COUNTED, 0)


@pytest.mark.parametrize("preset", ["plus", "tiny"])  # the matrix of the words is the embedding's in one of them
def test_known_words_are_as_likely_to_each_other_as_before(preset: str) -> None:
    torch.manual_seed(0)
    dims = preset_dims(preset, len(KNOWN), attention_dim=8, hidden_dim=8, embedding_dim=8)
    model = CaptionModel(dims).eval()
    start = Checkpoint(dims, KNOWN, dict(model.state_dict()), {}, {}, {}, {})
    more = grown_checkpoint(start, grown(KNOWN, COUNTED, 0))
    assert more.dims == dataclasses.replace(dims, vocab_size=9) and more.vocabulary.tokens[-1] == "stops"
    network = more.model()
    captions = torch.tensor([[[1, 4, 5, 6, 2]]])
    with torch.no_grad():
        features = model.encoder(torch.rand(1, 3, 224, 224))  # (1, L, D)
        before = model.forced_words(features, captions).log_probs  # (M, V)
        after = network.forced_words(features, captions).log_probs
    np.testing.assert_allclose(torch.log_softmax(after[:, : len(KNOWN)], dim=-1), before, atol=1e-5)
    for word in after:
        assert word[len(KNOWN) :].max() < word[: len(KNOWN)].max()  # no word that it never saw
