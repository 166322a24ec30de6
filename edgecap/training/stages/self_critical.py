"""Self-critical training: the model's own captions are rewarded by their CIDEr-D.

Rennie et al. 2017, "Self-critical sequence training for image captioning" (arXiv:1612.00563); the baseline of a
caption is the mean reward of the others drawn for its photo (Luo 2020, "A better variant of self-critical sequence
training", arXiv:2003.09971).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgecap.architectures.network import CaptionNetwork
from edgecap.metrics.cider import CiderD
from edgecap.runtime.bundle.vocabulary import END
from edgecap.training.config import SelfCritical, TrainConfig
from edgecap.training.sources.batches import Batch
from edgecap.training.sources.captions import pad_ids
from edgecap.training.sources.source import Source
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.stages.drawing import draw_captions
from edgecap.training.stages.losses import Term
from edgecap.training.stages.neighbours import nearest, references_beside
from edgecap.training.stages.stage import CaptionStage
from edgecap.training.teachers.task_teacher import TaskTeacher


class SelfCriticalStage(CaptionStage):
    """The expected CIDEr-D of the model's captions rises; the end of a caption counts as a word of it."""

    options: SelfCritical
    capturable = False  # captions are drawn until all have ended

    def __init__(
        self,
        options: SelfCritical,
        config: TrainConfig,
        model: CaptionNetwork,
        data: TrainingData,
        source: Source,
        task: TaskTeacher | None = None,
    ) -> None:
        super().__init__("self_critical", options, config, model, data, source)
        self._people = data.by_people or data.train  # captions of teachers are no references of a photo's own
        self._cider = CiderD({photo.id: _ended(photo.captions) for photo in self._people})
        self._beside: CiderD | None = None
        self._task = task if options.neighbours else None

    def prepare(self, cache: Path) -> None:
        super().prepare(cache)
        if self._task is not None:
            means = self._task.means(cache, self.data)  # (n, D)
            found = references_beside(self.data, self._people, nearest(means, self.options.neighbours))
            self._beside = self._cider.against({photo: _ended(captions) for photo, captions in found.items()})

    def photos(self) -> tuple[int, tuple[tuple[int, float], ...]]:
        # Photos that people gave no captions are not rewarded; one stands once in a batch, as rewards go by its name.
        return len(self.data.train), tuple((count, min(weight, 1.0)) for count, weight in self.data.parts)

    def loss(self, batch: Batch, done: float) -> list[Term]:
        """The first term's mean is the negative reward; its gradient is that of the second."""
        model, vocabulary = self.model, self.data.vocabulary
        features = self.source.views.features(batch.inputs)  # (N, L, D)
        model.decoder.eval()  # captions are drawn as they will be decoded, without dropout
        drawn = draw_captions([model], [features.detach()], vocabulary, self.options.samples, self.config.max_words)
        model.decoder.train()
        drawn = [sorted(photo, key=len, reverse=True) for photo in drawn]
        rewards = self._rewards(batch, drawn)  # (N, K)
        count = rewards.shape[1]
        others = (rewards.sum(axis=1, keepdims=True) - rewards) / (count - 1)
        advantages = torch.from_numpy(rewards - others).float().to(features.device)  # (N, K)
        captions = pad_ids([[[vocabulary.start_id, *ids] for ids in photo] for photo in drawn], vocabulary.pad_id)
        log_probs = model.teacher_forced(features, captions).sum(dim=-1)  # (N, K)
        words = sum(len(ids) for photo in drawn for ids in photo)
        reward = Term(advantages.new_tensor(-rewards.sum()), rewards.size)
        return [reward, Term(-(log_probs * advantages).sum(), words)]

    def _rewards(self, batch: Batch, drawn: list[list[list[int]]]) -> NDArray[np.float64]:
        """CIDEr-D (0 to 10) of every drawn caption, (N, K)."""
        ids = [self.data.train[index].id for index in batch.indices]
        by_rank = zip(*drawn, strict=True)
        words = [[self._words(caption) for caption in captions] for captions in by_rank]
        hypotheses = [dict(zip(ids, captions, strict=True)) for captions in words]
        own = np.stack([self._cider.score(said)[1] for said in hypotheses], axis=1)
        if self._beside is None:
            return own
        share, beside = self.options.share_beside, [self._beside.score(said)[1] for said in hypotheses]
        rewards: NDArray[np.float64] = (1 - share) * own + share * np.stack(beside, axis=1)
        return rewards

    def _words(self, ids: list[int]) -> list[str]:
        return [self.data.vocabulary.tokens[token] for token in ids]


def _ended(captions: Iterable[Sequence[str]]) -> list[list[str]]:
    """The end of a caption counts as a word of it."""
    return [[*words, END] for words in captions]
