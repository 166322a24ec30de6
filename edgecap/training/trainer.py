"""The training loop: steps, validation after every epoch, checkpoints that resume to the same result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW

from edgecap.data.karpathy import CaptionDataset, build_vocabulary
from edgecap.errors import CheckpointError, ConfigError, DataError, TrainingError
from edgecap.evaluation import decode_batches, image_tensor, score_split
from edgecap.interrupt import StopRequest
from edgecap.metrics import Scores
from edgecap.model.backbone_weights import load_backbone_weights, recalibrate_batchnorm
from edgecap.model.captioner import CaptionModel
from edgecap.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgecap.model.dims import preset_dims
from edgecap.model.generation import default_generation
from edgecap.model.preprocessing import preprocess_config
from edgecap.model.torch_backend import TorchBackend
from edgecap.training.batches import Batch, made_ahead
from edgecap.training.config import TrainConfig
from edgecap.training.log import LogRow, TrainingLog, plot_curve
from edgecap.training.progress import progress
from edgecap.training.stages import EndToEndStage, FrozenStage, TrainingData, TrainingStage
from edgecap.training.state import Position, pack_state, restore_random_numbers, unpack_optimizer

LAST, BEST = "last.safetensors", "best.safetensors"
RECALIBRATION_PHOTOS, RECALIBRATION_BATCH = 512, 64


@dataclass(frozen=True)
class RunResult:
    """Where a finished run left its best checkpoint, and how good it is."""

    checkpoint: Path
    cider_d: float  # on val, decoded as a bundle would by default, x 100


class Trainer:
    """One run in one folder: ``last`` and ``best`` checkpoint, ``log.csv``, ``curve.png``, ``cache/``."""

    def __init__(
        self, config: TrainConfig, dataset: CaptionDataset, folder: Path, *, resume: bool, say: Callable[[str], None]
    ) -> None:
        self.config, self.folder, self.say = config, folder, say
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        train, val = dataset.split("train"), dataset.split("val")
        saved = self._saved(resume)
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.vocabulary = build_vocabulary(train, config.min_count)
        if saved:
            self.dims = saved.dims
            if saved.vocabulary.tokens != self.vocabulary.tokens:
                raise DataError(dataset.source, f"is not what the run in {folder} was trained on: its words differ")
        else:
            self.dims = preset_dims(config.preset, len(self.vocabulary), activation=config.activation)
        # Chosen is what will be used: greedy captions rank the epochs of a run otherwise than beam search does.
        self.decoding = default_generation(self.vocabulary).options(self.vocabulary)
        self.model = CaptionModel(self.dims, config.dropout)
        data = TrainingData(train, val, self.vocabulary, preprocess_config(self.dims))
        self.position, self._saved_tensors = Position(), saved.training_tensors if saved else {}
        if saved:
            self.model.load_state_dict(saved.weights)
            self.position = Position(**saved.training)
            say(f"resuming at step {self.position.step:,}")
        else:
            self._start_backbone(data)
        self.model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stages: tuple[TrainingStage, ...] = (
            FrozenStage(0, config.frozen, config, self.model, data),
            EndToEndStage(1, config.end_to_end, config, self.model, data),
        )
        # A validation ends its epoch: with batches of the epoch behind it, the position is before one.
        self.log = TrainingLog(folder / "log.csv", step=self.position.step, validated=self.position.batch == 0)

    def _saved(self, resume: bool) -> Checkpoint | None:
        """The checkpoint to resume. Raises if there is one and it is not to be resumed, or has another config."""
        path = self.folder / LAST
        if not resume:
            if path.exists():
                raise CheckpointError(path, "a run is there already: continue it with --resume, or name another folder")
            return None
        saved = load_checkpoint(path, preset=self.config.preset)
        if not saved.training:
            raise CheckpointError(path, "holds a model without training state and cannot be resumed")
        if TrainConfig.from_json(saved.config) != self.config:
            raise ConfigError(f"{path} was made with another configuration: resume without --config and options")
        return saved

    def _start_backbone(self, data: TrainingData) -> None:
        encoder = self.model.encoder
        self.say(load_backbone_weights(encoder, self.dims.backbone, self.config.backbone_weights))
        if self.config.recalibrate_batchnorm:
            images = image_tensor([photo.path for photo in data.train[:RECALIBRATION_PHOTOS]], data.preprocess)
            recalibrate_batchnorm(encoder, torch.split(torch.from_numpy(images), RECALIBRATION_BATCH))

    def run(self) -> RunResult:
        """Train to the end.

        A signal during steps leaves a checkpoint of the last whole one; during caching or validation, which come
        again, the checkpoint before them.
        """
        for stage in self.stages[self.position.stage :]:
            if stage.options.epochs:
                stage.prepare(self.folder / "cache")
                self._run_stage(stage)
            self.position = replace(self.position, stage=stage.number + 1, epoch=0, batch=0)
        if not (self.folder / BEST).exists():
            raise ConfigError("training configuration: both stages have 0 epochs, so nothing was trained")
        return RunResult(self.folder / BEST, self.position.best_cider_d)

    def _run_stage(self, stage: TrainingStage) -> None:
        optimizer = AdamW(stage.parameter_groups(), lr=0.0, weight_decay=self.config.weight_decay)
        if self._saved_tensors:
            unpack_optimizer(optimizer, self._saved_tensors)
            restore_random_numbers(self._saved_tensors)
            self._saved_tensors = {}
        for epoch in range(self.position.epoch, stage.options.epochs):
            self._run_epoch(stage, optimizer, epoch)
            self._validate(stage, epoch)
            self.position = replace(self.position, epoch=epoch + 1, batch=0)
            if epoch + 1 == stage.options.epochs:
                # The next stage learns other parameters, with a fresh optimizer.
                self.position = replace(self.position, stage=stage.number + 1, epoch=0)
                optimizer.state.clear()
            self._save(optimizer)

    def _run_epoch(self, stage: TrainingStage, optimizer: AdamW, epoch: int) -> None:
        photos, done = len(stage.data.train), self.position.batch * self.config.batch_size
        description = f"{stage.name} {epoch + 1}/{stage.options.epochs}"
        self.model.train()
        with StopRequest() as stop, progress(description, photos, min(done, photos)) as bar:
            batches = stage.batches(epoch, self.position.batch)
            began = time.perf_counter()
            for batch in made_ahead(batches):
                factor = stage.rate_factor(epoch * stage.batches_per_epoch() + self.position.batch)
                for group in optimizer.param_groups:
                    group["lr"] = factor * group["peak"]
                loss, norm = self._step(stage, optimizer, batch)
                self.position = replace(self.position, batch=self.position.batch + 1, step=self.position.step + 1)
                step, count, rate = self.position.step, len(batch.captions), optimizer.param_groups[0]["lr"]
                began, before = time.perf_counter(), began
                speed = count / (began - before)  # with the wait for the batch
                self.log.append(LogRow(stage.name, epoch + 1, step, loss, rate, norm, speed))
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                bar.update(count)
                if stop.requested:
                    break
                if step % self.config.checkpoint_every == 0:
                    self._save(optimizer)
        if stop.requested:  # also by a signal after the last step
            self._save(optimizer)
            self.say(f"stopped at step {self.position.step:,}; continue with --resume")
            raise KeyboardInterrupt

    def _step(self, stage: TrainingStage, optimizer: AdamW, batch: Batch) -> tuple[float, float]:
        """Learn one batch; returns the cross-entropy per word in nats and the gradient's norm before clipping.

        Raises ``TrainingError``, with the weights unchanged, if the gradient is not finite.
        """
        captions = batch.captions.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            features = stage.features(batch.inputs.to(self.device))  # (N, L, D)
            log_probs = self.model.teacher_forced(features, captions)  # (N, K, T)
        loss = -log_probs.sum() / (captions[:, :, 1:] != self.vocabulary.pad_id).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        learning = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(learning, self.config.clip_norm)
        if not torch.isfinite(norm):
            step = self.position.step + 1
            raise TrainingError(f"the gradient of step {step:,} is not finite: resume with a lower learning rate")
        optimizer.step()
        return loss.item(), norm.item()

    def _validate(self, stage: TrainingStage, epoch: int) -> None:
        backend = TorchBackend(self.model, autocast=self.config.precision == "bf16")
        captions = decode_batches(backend, stage.encoded_val(backend), self.vocabulary, self.decoding)
        scores = score_split(stage.data.val, captions, self.vocabulary)
        cider_d, bleu_4 = 100 * scores.cider_d, 100 * scores.bleu[3]
        step = self.position.step
        self.log.append(LogRow(stage.name, epoch + 1, step, val_cider_d=cider_d, val_bleu_4=bleu_4))
        plot_curve(self.log, self.folder / "curve.png")
        figures = f"val CIDEr-D {cider_d:.2f}, BLEU-4 {bleu_4:.2f} (beam {self.decoding.beam})"
        self.say(f"{stage.name} epoch {epoch + 1}: {figures}")
        if cider_d > self.position.best_cider_d:
            self.position = replace(self.position, best_cider_d=cider_d)
            save_checkpoint(self.folder / BEST, self._checkpoint(scores), half=True)

    def _checkpoint(self, scores: Scores | None = None) -> Checkpoint:
        metrics: dict[str, Any] = {}
        if scores:
            metrics = {"split": "val", "beam": self.decoding.beam, "step": self.position.step, **scores.to_json()}
        weights = {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}
        return Checkpoint(self.dims, self.vocabulary, weights, self.config.to_json(), metrics, {}, {})

    def _save(self, optimizer: AdamW) -> None:
        training, tensors = pack_state(self.position, optimizer)
        resumable = replace(self._checkpoint(), training=training, training_tensors=tensors)
        save_checkpoint(self.folder / LAST, resumable, half=False)
