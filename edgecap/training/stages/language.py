"""The decoder learns how sentences go before it sees a photo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgecap.architectures.network import CaptionNetwork
from edgecap.data.sentences import load_sentences
from edgecap.training.config import Language, TrainConfig
from edgecap.training.sources.batches import Batch, EpochOrder
from edgecap.training.sources.captions import pad_captions
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.stages.losses import Term, caption_terms
from edgecap.training.stages.stage import TrainingStage, Validation

VALIDATION_SENTENCES = 250  # at once


class LanguageStage(TrainingStage):
    """Sentences without photos: the decoder attends to one location whose features are zero."""

    options: Language
    unit = "sentence"

    def __init__(self, options: Language, config: TrainConfig, model: CaptionNetwork, data: TrainingData) -> None:
        super().__init__("language", options, config, model, data)
        captions = tuple(caption for photo in data.train for caption in photo.captions)
        self._sentences = load_sentences(Path(options.text)) if options.text else captions

    def prepare(self, cache: Path) -> None:
        """The sentences are in memory, so there is nothing to cache."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.model.decoder.parameters()), "peak": self.options.learning_rate}]

    def order(self, epoch: int, first: int = 0) -> EpochOrder:
        size, count = self.options.batch_size, len(self._sentences)
        return EpochOrder(
            self.config.seed, self.number, epoch, size, count, first, self.share, whole=self.whole_batches
        )

    def batches(self, order: EpochOrder) -> Iterator[Batch]:
        for indices in order:
            sentences = [self._sentences[index] for index in indices]
            least = len(sentences) if order.whole else 0
            captions = pad_captions([sentences], self.data.vocabulary, self.config.max_words, least=least)
            yield Batch(indices, self._nothing(), captions)  # (1, K, T + 1)

    def _nothing(self) -> Tensor:
        return torch.zeros(1, 1, self.model.dims.feature_dim)  # (N, L, D) of one photo without content

    def loss(self, batch: Batch, done: float) -> list[Term]:
        words = self.model.forced_words(batch.inputs, batch.captions)
        return caption_terms(words, smoothing=self.config.label_smoothing)

    @torch.no_grad()
    def validate(self) -> Validation:
        """Cross-entropy on val's captions, which are words that the stage does not learn from."""
        self.model.eval()
        sentences = [caption for photo in self.data.val for caption in photo.captions]
        device = next(self.model.parameters()).device
        total = words = 0.0
        for start in range(0, len(sentences), VALIDATION_SENTENCES):
            part = sentences[start : start + VALIDATION_SENTENCES]
            captions = pad_captions([part], self.data.vocabulary, self.config.max_words)
            (term,) = caption_terms(self.model.forced_words(self._nothing().to(device), captions))
            total, words = total + term.total.item(), words + float(term.over)
        loss = total / words
        return Validation(f"val {loss:.3f} nats per word, without photos", loss=loss)
