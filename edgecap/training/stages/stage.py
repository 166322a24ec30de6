"""The stages of a run: which parameters learn, at which rates, from which batches, and what is minimised."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgecap.architectures.defaults import default_generation
from edgecap.architectures.network import CaptionNetwork
from edgecap.architectures.torch_engine import TorchEngine
from edgecap.data.karpathy import CaptionedPhoto
from edgecap.metrics import Scores
from edgecap.metrics.split import decode_batches, scores_by_dataset
from edgecap.runtime.engines.engine import Encoded
from edgecap.training.config import Stage, TrainConfig
from edgecap.training.sources.batches import Batch, EpochOrder
from edgecap.training.sources.captions import by_caption_count, pad_captions
from edgecap.training.sources.source import Source
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.stages.losses import SoftTargets, Term, caption_terms, joined
from edgecap.training.teachers.teacher_head import TeacherHead

EncodedPhotos = tuple[Sequence[CaptionedPhoto], Encoded]


@dataclass(frozen=True)
class Validation:
    """How good the model is on val: its loss, and the scores of its captions in stages that teach these."""

    text: str
    loss: float
    scores: Scores | None = None  # of several datasets the mean
    datasets: Mapping[str, Scores] = field(default_factory=dict)  # of each, where there are several


class TrainingStage(ABC):
    """One stage on one model."""

    number: int  # its place among the stages
    unit = "photo"  # what its batches hold
    share = (0, 1)  # of each batch that this process learns from: its rank among how many
    capturable = True  # a step is the same operations whatever the batch
    whole_batches = False  # as EpochOrder.whole

    def __init__(
        self, name: str, options: Stage, config: TrainConfig, model: CaptionNetwork, data: TrainingData
    ) -> None:
        self.name = name
        self.number = list(config.stages()).index(name)
        self.options, self.config, self.model, self.data = options, config, model, data

    @abstractmethod
    def prepare(self, cache: Path) -> None:
        """Work before the first batch; ``cache`` is the folder for what outlives the process."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimizer, each with the ``peak`` of its learning rate."""

    @abstractmethod
    def batches(self, order: EpochOrder) -> Iterator[Batch]:
        """The batches of an epoch."""

    @abstractmethod
    def loss(self, batch: Batch, done: float) -> list[Term]:
        """What a batch's step minimises, with gradients; ``done`` is the share of the stage that is behind it."""

    def cached_bytes(self) -> int:
        """What its cached features take on the disk."""
        return 0

    def finish(self) -> str | None:
        """Work after the last epoch, on the weights that it leaves; what was done, in a line."""
        return None

    @abstractmethod
    def validate(self) -> Validation:
        """How good the model is as it stands."""

    def order(self, epoch: int, first: int = 0) -> EpochOrder:
        """The order of an epoch, from batch ``first`` on."""
        config = self.config
        count, parts = self.photos()
        size, whole = config.batch_size, self.whole_batches
        return EpochOrder(config.seed, self.number, epoch, size, count, first, self.share, parts, whole)

    def photos(self) -> tuple[int, tuple[tuple[int, float], ...]]:
        """How many of the photos with captions are learnt from, from the first one on, and of which datasets."""
        return len(self.data.learnt), self.data.learnt_parts

    def steps(self) -> int:
        """Batches of all epochs."""
        return self.options.epochs * len(self.order(0))

    def rate_factor(self, step: int) -> float:
        """Share of the peak learning rate at a step of the stage: a linear rise, then half a cosine to zero."""
        total = self.steps()
        rise = max(1, round(self.options.warmup * total))
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))

    def _decoder_group(self) -> dict[str, Any]:
        parameters = [*self.model.decoder.parameters(), *self.model.encoder.projection.parameters()]
        return {"params": parameters, "peak": self.options.learning_rate}

    def _backbone_group(self) -> dict[str, Any]:
        parameters = list(self.model.encoder.backbone.parameters())
        return {"params": parameters, "peak": self.options.backbone_learning_rate}


def _figures(scores: Scores) -> str:
    return f"CIDEr-D {100 * scores.cider_d:.2f}, BLEU-4 {100 * scores.bleu[3]:.2f}"


class CaptionStage(TrainingStage):
    """The captions of the train photos are learnt word by word; the backbone learns if its rate is not 0."""

    def __init__(
        self,
        name: str,
        options: Stage,
        config: TrainConfig,
        model: CaptionNetwork,
        data: TrainingData,
        source: Source,
        head: TeacherHead | None = None,
    ) -> None:
        super().__init__(name, options, config, model, data)
        self.source, self.head, self.task_teacher = source, head, source.task_teacher
        # Chosen is what will be used: greedy captions rank the epochs of a run otherwise than beam search does.
        self.decoding = default_generation(data.vocabulary).options(data.vocabulary)

    def prepare(self, cache: Path) -> None:
        self.source.prepare(cache)

    def cached_bytes(self) -> int:
        return self.source.views.cached_bytes()

    def parameter_groups(self) -> list[dict[str, Any]]:
        learning = self._decoder_group()
        if self.head is not None:
            learning["params"] += self.head.parameters()
        return [learning, *([self._backbone_group()] if self.options.backbone_learning_rate else [])]

    def batches(self, order: EpochOrder) -> Iterator[Batch]:
        return self.source.batches(order)

    def loss(self, batch: Batch, done: float) -> list[Term]:
        features = self.source.views.features(batch.inputs)  # (N, L, D)
        known = self.source.task_features(batch)  # (N, L, D) each
        terms = joined(
            [
                self._word_terms(*(_rows(each, rows) for each in (features, *known)), captions=captions)
                for rows, captions in by_caption_count(batch.captions)
            ]
        )
        if batch.teacher is None or self.head is None:
            return terms
        config = self.config
        words = [term._replace(weight=config.beta * term.weight) for term in terms]
        return [*words, *self.head.terms(features, batch.teacher, spatial=config.spatial, pooled=config.alpha)]

    def _word_terms(self, features: Tensor, *known: Tensor, captions: Tensor) -> list[Term]:
        config, soft = self.config, None
        if self.task_teacher is not None:
            distributions = self.task_teacher.distributions(known, captions)
            soft = SoftTargets(distributions, config.task_share, config.temperature)
        return caption_terms(self.model.forced_words(features, captions), smoothing=config.label_smoothing, soft=soft)

    def validate(self) -> Validation:
        backend = TorchEngine(self.model, autocast=self.config.precision == "bf16")
        losses: list[Term] = []
        encoded = self._measured(self.source.views.encoded_val(backend), losses)
        captions = decode_batches(backend, encoded, self.data.vocabulary, self.decoding)
        apart = scores_by_dataset(self.data.val, captions, self.data.vocabulary)
        scores = Scores.mean(apart.values())
        loss = sum(term.total.item() for term in losses) / sum(float(term.over) for term in losses)
        figures = f"val {_figures(scores)} (beam {self.decoding.beam}), {loss:.3f} nats per word"
        if len(apart) == 1:
            return Validation(figures, loss, scores)
        each = "; ".join(f"{name} {_figures(own)}" for name, own in apart.items())
        return Validation(f"{figures}; {each}", loss, scores, apart)

    def _measured(self, batches: Iterable[EncodedPhotos], losses: list[Term]) -> Iterator[EncodedPhotos]:
        """The same batches; the cross-entropy on each one's captions is added to ``losses``."""
        device = next(self.model.parameters()).device
        for photos, encoded in batches:
            captions = pad_captions([photo.captions for photo in photos], self.data.vocabulary, self.config.max_words)
            memory, first = (
                {name: torch.from_numpy(value).to(device) for name, value in arrays.items()}
                for arrays in (encoded.memory, encoded.state)
            )
            with torch.no_grad():
                losses += caption_terms(self.model.words_from(memory, first, captions))
            yield photos, encoded


def _rows(tensor: Tensor, rows: Tensor | slice) -> Tensor:
    return tensor[rows if isinstance(rows, slice) else rows.to(tensor.device, non_blocking=True)]
