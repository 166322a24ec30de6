"""Self-critical training: the model's own captions are rewarded by their CIDEr-D.

Rennie et al. 2017, "Self-critical sequence training for image captioning" (arXiv:1612.00563); the baseline of a
caption is the mean reward of the others drawn for its photo (Luo 2020, "A better variant of self-critical sequence
training", arXiv:2003.09971).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecap.architectures.network import CaptionNetwork, several
from edgecap.metrics.cider import CiderD
from edgecap.runtime.bundle.vocabulary import END, Vocabulary
from edgecap.training.config import SelfCritical, TrainConfig
from edgecap.training.sources.batches import Batch
from edgecap.training.sources.captions import pad_ids
from edgecap.training.sources.source import Source
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.stages.losses import Term
from edgecap.training.stages.stage import CaptionStage


@torch.no_grad()
def draw_captions(
    model: CaptionNetwork, features: Tensor, vocabulary: Vocabulary, count: int, max_words: int
) -> list[list[list[int]]]:
    """``count`` captions of each photo of features (N, L, D), drawn word by word: ids from the first word to ``<end>``.

    A caption that is cut at ``max_words`` has no ``<end>``.
    """
    memory, first = model.begin(features)
    state = several(first, count)  # (N, count, ...) each
    token = torch.full((len(features), count), vocabulary.start_id, device=features.device)  # (N, count)
    over, tokens = torch.zeros_like(token, dtype=torch.bool), []
    for _ in range(max_words + 1):
        log_probs, state, _ = model.step(token, state, memory)  # (N, count, V)
        log_probs[..., [vocabulary.pad_id, vocabulary.start_id]] = -torch.inf
        drawn = log_probs.exp().flatten(0, 1).multinomial(1).view_as(token)  # (N, count)
        token = torch.where(over, vocabulary.pad_id, drawn)
        tokens.append(token)
        over |= token == vocabulary.end_id
        if over.all():
            break
    ids = torch.stack(tokens, dim=-1)[..., : max_words + 1].tolist()  # (N, count, T)
    return [[_ended(caption, vocabulary, max_words) for caption in photo] for photo in ids]


def _ended(ids: list[int], vocabulary: Vocabulary, max_words: int) -> list[int]:
    if vocabulary.end_id in ids:
        return ids[: ids.index(vocabulary.end_id) + 1]
    return ids[:max_words]


class SelfCriticalStage(CaptionStage):
    """The expected CIDEr-D of the model's captions rises; the end of a caption counts as a word of it."""

    options: SelfCritical

    def __init__(
        self, options: SelfCritical, config: TrainConfig, model: CaptionNetwork, data: TrainingData, source: Source
    ) -> None:
        super().__init__("self_critical", options, config, model, data, source)
        self._cider = CiderD({photo.id: [[*words, END] for words in photo.captions] for photo in data.train})

    def photos(self) -> tuple[int, tuple[tuple[int, float], ...]]:
        # Captions of teachers are no references, and a photo stands once in a batch: its rewards go by its name.
        return len(self.data.train), tuple((count, min(weight, 1.0)) for count, weight in self.data.parts)

    def loss(self, batch: Batch, done: float) -> list[Term]:
        """The first term's mean is the negative reward; its gradient is that of the second."""
        model, vocabulary = self.model, self.data.vocabulary
        features = self.source.views.features(batch.inputs)  # (N, L, D)
        model.decoder.eval()  # captions are drawn as they will be decoded, without dropout
        drawn = draw_captions(model, features.detach(), vocabulary, self.options.samples, self.config.max_words)
        model.decoder.train()
        drawn = [sorted(photo, key=len, reverse=True) for photo in drawn]
        rewards = self._rewards(batch, drawn)  # (N, K)
        count = rewards.shape[1]
        others = (rewards.sum(axis=1, keepdims=True) - rewards) / (count - 1)
        advantages = torch.from_numpy(rewards - others).float().to(features.device)  # (N, K)
        captions = pad_ids([[[vocabulary.start_id, *ids] for ids in photo] for photo in drawn], vocabulary.pad_id)
        log_probs = model.teacher_forced(features, captions.to(features.device)).sum(dim=-1)  # (N, K)
        words = sum(len(ids) for photo in drawn for ids in photo)
        reward = Term(advantages.new_tensor(-rewards.sum()), rewards.size)
        return [reward, Term(-(log_probs * advantages).sum(), words)]

    def _rewards(self, batch: Batch, drawn: list[list[list[int]]]) -> NDArray[np.float64]:
        """CIDEr-D (0 to 10) of every drawn caption, (N, K)."""
        ids = [self.data.train[index].id for index in batch.indices]
        by_rank = zip(*drawn, strict=True)
        words = [[self._words(caption) for caption in captions] for captions in by_rank]
        scores = [self._cider.score(dict(zip(ids, captions, strict=True)))[1] for captions in words]
        return np.stack(scores, axis=1)

    def _words(self, ids: list[int]) -> list[str]:
        return [self.data.vocabulary.tokens[token] for token in ids]
