"""The training loop: steps, validation after every epoch, checkpoints that resume to the same result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from edgecap.architectures.backbones.still import still_blocks
from edgecap.architectures.backbones.weights import load_backbone_weights, recalibrate_batchnorm
from edgecap.architectures.checkpoint import Checkpoint, save_checkpoint
from edgecap.architectures.defaults import default_generation, preprocess_config
from edgecap.data.karpathy import build_vocabulary
from edgecap.data.mixture import Mixture
from edgecap.errors import ConfigError, DataError, TrainingError, brief
from edgecap.interrupt import StopRequest
from edgecap.metrics.split import image_tensor
from edgecap.training.beginning import beginning, knows, of_checkpoint
from edgecap.training.config import TrainConfig
from edgecap.training.ema import AveragedWeights
from edgecap.training.machine.captured import CapturedPass
from edgecap.training.machine.precision import resolved_precision, use_card
from edgecap.training.machine.processes import Processes
from edgecap.training.plan import photos_of, plan
from edgecap.training.report.few_words import few_words
from edgecap.training.report.forecast import WORTH_IT, hours_line, plan_lines, unchanged
from edgecap.training.report.log import LogRow, TrainingLog, plot_curve
from edgecap.training.report.progress import progress
from edgecap.training.saved_run import fitting, saved_run
from edgecap.training.sources.batches import Batch, made_ahead
from edgecap.training.sources.photos import photos_for
from edgecap.training.sources.pseudo_captions import with_pseudo_captions
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.sources.workers import resolved_workers
from edgecap.training.stages.losses import Term, loss_of
from edgecap.training.stages.stage import CaptionStage, TrainingStage, Validation
from edgecap.training.state import Position, load_optimizer, pack_state, restore_random_numbers, unpack
from edgecap.training.teachers.task_teacher import task_teacher

LAST, BEST = "last.safetensors", "best.safetensors"
RECALIBRATION_PHOTOS, RECALIBRATION_BATCH = 512, 64


@dataclass(frozen=True)
class RunResult:
    """Where a finished run left its best checkpoint, and how good it is.

    A run that taught no captions, only an encoder or a language, left its last one, for ``backbone_weights`` of others.
    """

    checkpoint: Path
    cider_d: float | None  # on val, decoded as a bundle would by default, x 100
    first: bool = True  # of the processes of the run, which alone knows the figure


class Trainer:
    """One run in one folder: ``last`` and ``best`` checkpoint, ``log.csv``, ``curve.png``, ``cache/``."""

    def __init__(
        self,
        config: TrainConfig,
        dataset: Mixture,
        folder: Path,
        *,
        resume: bool,
        say: Callable[[str], None],
        taught: TrainConfig | None = None,
        cache: Path | None = None,
    ) -> None:
        """``taught`` is the configuration with the files of its teachers; another run's ``cache`` may be shared."""
        self.processes = Processes()
        self.cache = cache or folder / "cache"
        self.device = self.processes.device
        self.precision = resolved_precision(config.precision, self.device)
        use_card(self.device, self.precision.name)
        # What is worked with here; a checkpoint keeps what was asked for, which may come to something else elsewhere.
        workers = resolved_workers(config.workers, self.device)
        taught = replace(taught or config, precision=self.precision.name, workers=workers)
        self.config, self.folder = config, folder
        self.say = say if self.processes.first else lambda line: None
        dataset.check_held_out()
        train, val = dataset.split("train"), dataset.split("val")
        for name in dataset.without("val"):
            self.say(f"{name} has no photos in split 'val': the others choose the checkpoint")
        self.learnt_from = dataset.described(train)
        saved = saved_run(folder / LAST, config, self.learnt_from) if resume else None
        torch.manual_seed(config.seed)
        words = build_vocabulary(train, config.min_count, config.max_vocabulary or None)
        begun = of_checkpoint(saved) if saved else beginning(config, words)
        warning = few_words(begun.vocabulary, config.min_count)
        if warning and not saved:
            self.say(warning)
        if not knows(begun.vocabulary, words, config):
            raise DataError(dataset.source, f"is not what the run in {folder} was trained on: its words differ")
        self.architecture, self.dims, self.vocabulary = begun.architecture, begun.dims, begun.vocabulary
        self.model = self.architecture.network(self.dims, config.dropout)
        preprocess = preprocess_config(self.dims)
        unlabelled = tuple(photos_of(Path(config.unlabelled))) if config.unlabelled else ()
        paths = [*(photo.path for photo in (*train, *val)), *unlabelled]
        photos = photos_for(config.keep_photos, paths, preprocess, self.device, workers, self.say)
        data = TrainingData(
            train,
            val,
            self.vocabulary,
            preprocess,
            unlabelled=unlabelled,
            photos=photos,
            parts=dataset.weighted(train),
        )
        task = task_teacher(taught, self.vocabulary, self.device)
        with self.processes.first_goes_first():
            data = with_pseudo_captions(data, task, taught, self.cache)
        self.position = Position()
        self._optimizer_state: dict[str, Tensor] = {}
        if begun.weights is not None:
            self.model.load_state_dict(begun.weights)
        if saved:
            self.position = Position.from_json(saved.training)
            self.say(f"resuming at step {self.position.step:,}")
        elif begun.weights is not None:
            decoder = f", with the decoder of {config.decoder_from}" if config.decoder_from else ""
            self.say(f"starting from {config.start_from}{decoder}")
        else:
            self._start_backbone(data)
        self.say(self.precision.line)
        self.model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.data = data
        self.stages, self.head = plan(taught, self.model, data, task)
        self._still = still_blocks(self.model.encoder.backbone, config.frozen_blocks)
        self._pass: CapturedPass | None = None  # of the stage that runs
        captures = config.capture and self.device.type == "cuda" and self.processes.count == 1
        for stage in self.stages:
            stage.share = (self.processes.rank, self.processes.count)
            enough = stage.order(0).shown >= stage.order(0).batch_size
            stage.whole_batches = captures and stage.capturable and enough
        modules = {"model": self.model, **({"head": self.head} if self.head is not None else {})}
        self.average = AveragedWeights(torch.nn.ModuleDict(modules), config.ema)
        if self.head is not None:
            self.head.to(self.device)
        if saved:
            with fitting(self.folder / LAST):
                self._restore(saved.training_tensors)
        if self.processes.count > 1:  # the same weights, but words that are dropped or drawn otherwise
            torch.manual_seed(config.seed + self.processes.rank + self.position.step)
        # A validation ends its epoch: with batches of the epoch behind it, the position is before one.
        folder.mkdir(parents=True, exist_ok=True)
        if self.processes.first:
            for left in folder.glob("*.partial"):  # what a killed part of the run was writing
                left.unlink()
        with self.processes.first_goes_first():
            self.log = TrainingLog(folder / "log.csv", step=self.position.step, validated=self.position.batch == 0)

    def _start_backbone(self, data: TrainingData) -> None:
        encoder = self.model.encoder
        self.say(load_backbone_weights(encoder, self.config.backbone_weights))
        if self.config.recalibrate_batchnorm:
            images = image_tensor([photo.path for photo in data.train[:RECALIBRATION_PHOTOS]], data.preprocess)
            recalibrate_batchnorm(encoder, torch.split(torch.from_numpy(images), RECALIBRATION_BATCH))

    def run(self) -> RunResult:
        """Train to the end.

        A signal during steps leaves a checkpoint of the last whole one; during caching or validation, which come
        again, the checkpoint before them.
        """
        if not self.stages:
            raise ConfigError("training configuration: all stages have 0 epochs, so there is nothing to train")
        for line in plan_lines(self.learnt_from, self.data, self.stages, self.cache):
            self.say(line)
        for stage in self.stages:
            if stage.number >= self.position.stage:
                with self.processes.first_goes_first():
                    stage.prepare(self.cache)
                self._run_stage(stage)
        captions = any(isinstance(stage, CaptionStage) for stage in self.stages)
        best = self.position.best_cider_d if captions else None
        return RunResult(self.folder / (BEST if captions else LAST), best, self.processes.first)

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from a checkpoint: the optimizer's part waits for its stage."""
        parts = unpack(tensors)
        restore_random_numbers(parts["rng"])
        self.average.load_state(parts["average"])
        if self.head is not None:
            self.head.load_state_dict(parts["head"])
        self._optimizer_state = parts["optimizer"]

    def _run_stage(self, stage: TrainingStage) -> None:
        if self.position.stage != stage.number:  # else it goes on where it was
            self.position = replace(self.position, stage=stage.number, epoch=0, batch=0)
        one_pass = self.device.type == "cuda"  # over all weights: hundreds of small ones keep a card waiting
        optimizer = AdamW(stage.parameter_groups(), lr=0.0, weight_decay=self.config.weight_decay, fused=one_pass)
        with fitting(self.folder / LAST):
            load_optimizer(optimizer, self._optimizer_state)
        self._optimizer_state = {}
        self._forecast(stage)
        self._pass = self._captured(stage)
        for epoch in range(self.position.epoch, stage.options.epochs):
            self._run_epoch(stage, optimizer, epoch)
            if (epoch + 1) % self.config.validate_every == 0 or epoch + 1 == stage.options.epochs:
                self._validate(stage, epoch)
            self.position = replace(self.position, epoch=epoch + 1, batch=0)
            if epoch + 1 == stage.options.epochs:
                # The next stage learns other parameters, with a fresh optimizer, and goes on from the average.
                self.position = replace(self.position, stage=stage.number + 1, epoch=0)
                self.average.adopt()
                optimizer.state.clear()
                if done := stage.finish():
                    self.say(f"{stage.name}: {done}")
            self._save(optimizer)
        self._pass = None
        optimizer.zero_grad(set_to_none=True)

    def _learning(self) -> None:
        """Have all that learns behave so."""
        self.model.train()
        for block in self._still:
            block.eval()

    def _captured(self, stage: TrainingStage) -> CapturedPass | None:
        """The stage's pass over a batch as one graph, where it can be."""
        if not stage.whole_batches:
            return None
        self._learning()
        batch = next(iter(stage.batches(stage.order(0)))).to(self.device)
        modules = [self.model, *([self.head] if self.head is not None else [])]
        try:
            return CapturedPass(lambda some: self._terms(stage, some, 0.0), batch, modules)
        except RuntimeError as error:  # no memory, mostly
            raise TrainingError(
                f"{stage.name}: a step cannot be captured as a CUDA graph ({brief(error)}): "
                "set capture=false, or a smaller batch_size"
            ) from error

    def _forecast(self, stage: TrainingStage) -> None:
        """Say how long the rest of a stage takes, unless that is soon over."""
        behind = self.position.epoch * len(stage.order(0)) + self.position.batch
        left = stage.steps() - behind
        if left >= WORTH_IT:
            self._learning()
            with unchanged(self.model, *([self.head] if self.head is not None else [])):
                self.say(hours_line(stage, left, lambda batch: self._rehearse(stage, batch, behind / stage.steps())))

    def _rehearse(self, stage: TrainingStage, batch: Batch, done: float) -> None:
        """All of a step but the change of the weights and what processes tell each other."""
        terms = self._terms(stage, batch, done)
        loss_of(terms, [term.over for term in terms]).backward()  # type: ignore[no-untyped-call]

    def _terms(self, stage: TrainingStage, batch: Batch, done: float) -> list[Term]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision.name == "bf16"):
            return stage.loss(batch.to(self.device), done)

    def _run_epoch(self, stage: TrainingStage, optimizer: AdamW, epoch: int) -> None:
        order = stage.order(epoch, self.position.batch)
        done = order.first * order.batch_size
        description = f"{stage.name} {epoch + 1}/{stage.options.epochs}"
        self._learning()
        with StopRequest() as stop, progress(description, order.shown, min(done, order.shown)) as bar:
            batches = (batch.to(self.device) for batch in stage.batches(order))
            began = time.perf_counter()
            for batch in made_ahead(batches):
                behind = epoch * len(order) + self.position.batch  # steps of the stage
                factor = stage.rate_factor(behind)
                for group in optimizer.param_groups:
                    group["lr"] = factor * group["peak"]
                loss, norm = self._step(stage, optimizer, batch, behind / stage.steps())
                self.position = replace(self.position, batch=self.position.batch + 1, step=self.position.step + 1)
                step, rate = self.position.step, optimizer.param_groups[0]["lr"]
                count = len(batch.indices) * self.processes.count
                began, before = time.perf_counter(), began
                speed = count / (began - before)  # with the wait for the batch
                if self.processes.first:
                    self.log.append(LogRow(stage.name, epoch + 1, step, loss, rate, norm, speed))
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update(count)
                if self._any(stop.requested):
                    break
                if step % self.config.checkpoint_every == 0:
                    self._save(optimizer)
        if self._any(stop.requested):  # also by a signal after the last step
            self._save(optimizer)
            self.say(f"stopped at step {self.position.step:,}; continue with --resume")
            raise KeyboardInterrupt

    def _any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        if self.processes.count == 1:
            return here
        return bool(self.processes.sum(torch.tensor(float(here), device=self.device)))

    def _step(self, stage: TrainingStage, optimizer: AdamW, batch: Batch, done: float) -> tuple[float, float]:
        """Learn one batch; returns the mean of its first term and the gradient's norm before clipping.

        Raises ``TrainingError``, with the weights unchanged, if the gradient is not finite.
        """
        mean = self._gradients(stage, optimizer, batch, done) if self._pass is None else self._pass(batch)
        learning = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.processes.sum_gradients(learning)
        clipped = torch.nn.utils.clip_grad_norm_(learning, self.config.clip_norm)
        # The one time in a step that a graphics card is waited for.
        shown, norm = torch.stack([mean.float(), clipped.float()]).tolist()
        if not math.isfinite(norm):
            step = self.position.step + 1
            raise TrainingError(f"the gradient of step {step:,} is not finite: resume with a lower learning rate")
        optimizer.step()
        self.average.update()
        return shown, norm

    def _gradients(self, stage: TrainingStage, optimizer: AdamW, batch: Batch, done: float) -> Tensor:
        """Those of this process's share of a batch; gives the mean of its first term in all shares, a scalar."""
        terms = self._terms(stage, batch, done)
        over = torch.stack([torch.as_tensor(term.over, dtype=torch.float32, device=self.device) for term in terms])
        over = self.processes.sum(over)
        optimizer.zero_grad(set_to_none=True)
        loss_of(terms, over.unbind()).backward()  # type: ignore[no-untyped-call]
        return self.processes.sum(terms[0].total.detach().float()) / over[0]

    def _validate(self, stage: TrainingStage, epoch: int) -> None:
        if not self.processes.first:
            return  # its position never learns of the best, which only the first one saves
        with self.average.applied():
            found = stage.validate()
            self.say(f"{stage.name} epoch {epoch + 1}: {found.text}")
            row = LogRow(stage.name, epoch + 1, self.position.step, val_loss=found.loss)
            if found.scores:
                cider_d = 100 * found.scores.cider_d
                each = " ".join(f"{name} {100 * own.cider_d:.2f}" for name, own in found.datasets.items())
                row = replace(row, val_cider_d=cider_d, val_bleu_4=100 * found.scores.bleu[3], val_datasets=each)
                if better := self.position.improved(cider_d, found.loss):
                    self.position = better
                    save_checkpoint(self.folder / BEST, self._checkpoint(found), half=True)
        self.log.append(row)
        plot_curve(self.log, self.folder / "curve.png")

    def _checkpoint(self, found: Validation | None = None) -> Checkpoint:
        metrics: dict[str, Any] = {}
        if found and found.scores:
            metrics = {
                "split": "val",
                "beam": default_generation(self.vocabulary).beam,
                "step": self.position.step,
                **found.scores.to_json(),
            }
            if found.datasets:
                metrics["datasets"] = {name: own.to_json() for name, own in found.datasets.items()}
        weights = {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}
        config, name = self.config.to_json(), self.architecture.name
        return Checkpoint(self.dims, self.vocabulary, weights, config, metrics, {}, {}, name)

    def _save(self, optimizer: AdamW) -> None:
        if not self.processes.first:
            return
        head = self.head.state_dict() if self.head else {}
        training, tensors = pack_state(
            self.position, self.learnt_from, optimizer, average=self.average.state(), head=head
        )
        resumable = replace(self._checkpoint(), training=training, training_tensors=tensors)
        save_checkpoint(self.folder / LAST, resumable, half=False)
