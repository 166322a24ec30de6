"""The configuration of a training run: one frozen dataclass, from TOML and flags, kept in the checkpoint."""

from __future__ import annotations

import copy
import dataclasses
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from edgecap.architectures.registry import presets
from edgecap.data.augmentation import Augmentation
from edgecap.data.mixture import DataSource
from edgecap.errors import ConfigError, ConfigOptionError, brief
from edgecap.runtime.bundle.generation import MAX_LENGTH
from edgecap.runtime.bundle.regular_file import read_regular
from edgecap.runtime.bundle.typed import read_options

# Beyond these a number is a slip: no training wants it, and its memory or time would not be there.
MAX_EPOCHS, MAX_RATE, MAX_BATCH, MAX_VIEWS, MAX_SAMPLES, MAX_WORKERS = 10_000, 10.0, 65_536, 1_000, 100, 256
MAX_TOML_BYTES, MAX_NEIGHBOURS = 2**20, 100
MAX_PSEUDO_CAPTIONS = 5  # as people give


@dataclass(frozen=True)
class Stage:
    """One part of the training, with an optimizer and a learning-rate schedule of its own. No epochs: left out."""

    epochs: int = 0
    learning_rate: float = 1.5e-4  # of what is not the backbone
    backbone_learning_rate: float = 0.0
    warmup: float = 0.03  # share of the stage's steps over which the rate rises; then it falls as a cosine

    def problems(self) -> Iterator[str]:
        """What is wrong with the values, a line each."""
        if self.epochs < 0:
            yield "epochs must not be negative"
        if self.epochs > MAX_EPOCHS:
            yield f"epochs must be at most {MAX_EPOCHS:,}"
        if not all(math.isfinite(rate) and rate >= 0 for rate in (self.learning_rate, self.backbone_learning_rate)):
            yield "learning rates must be finite and not negative"
        if max(self.learning_rate, self.backbone_learning_rate) > MAX_RATE:
            yield f"learning rates must be at most {MAX_RATE:g}"
        if not 0 <= self.warmup <= 1:
            yield "warmup must be in [0, 1]"


@dataclass(frozen=True)
class Distillation(Stage):
    """The encoder learns a teacher's map of every photo, captioned or not."""

    learning_rate: float = 1e-3
    backbone_learning_rate: float = 1e-3
    batch_size: int = 64  # photos
    pooled: float = 1.0  # weight of the distance of the pooled features, beside that of each location

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from _batch_problems(self.batch_size)
        if not (math.isfinite(self.pooled) and self.pooled >= 0):
            yield "pooled must be finite and not negative"


@dataclass(frozen=True)
class Language(Stage):
    """The decoder learns from sentences without photos."""

    learning_rate: float = 8e-4
    text: str = ""  # a file with a sentence a line, or an id, a tab and a sentence; else the captions of train
    batch_size: int = 100  # sentences

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from _batch_problems(self.batch_size)


@dataclass(frozen=True)
class SelfCritical(Stage):
    """The model's own captions are rewarded by their CIDEr-D (Rennie et al. 2017, arXiv:1612.00563)."""

    learning_rate: float = 2e-4
    samples: int = 5  # captions drawn for each photo; each is held against the mean of the others
    # The captions of so many photos that look most alike to the first task teacher, and those that the task teachers
    # drew (pseudo_captions), are references beside a photo's own, and have that share of its reward.
    neighbours: int = 0
    share_beside: float = 0.5

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if not 2 <= self.samples <= MAX_SAMPLES:
            yield f"samples must be at least 2, and at most {MAX_SAMPLES}"
        if not 0 <= self.neighbours <= MAX_NEIGHBOURS:
            yield f"neighbours must be in [0, {MAX_NEIGHBOURS}]"
        if not 0 <= self.share_beside <= 1:
            yield "share_beside must be in [0, 1]"


def _batch_problems(size: int) -> Iterator[str]:
    if size < 1:
        yield "batch_size must be at least 1"
    if size > MAX_BATCH:
        yield f"batch_size must be at most {MAX_BATCH:,}"


@dataclass(frozen=True)
class TrainConfig:
    """Every option of ``edgecap train``.

    Optimizer, clipping and end-to-end rate are the source paper's. Its batch of 64 is not: 64 photos with all their
    captions are 320 sentences, and so few steps an epoch learnt far slower on Flickr8k than 20 photos a step.
    """

    preset: str = "plus"
    seed: int = 1
    backbone_weights: str = "imagenet"  # imagenet | none | a .safetensors file, which may be a checkpoint of edgecap
    recalibrate_batchnorm: bool = False  # needed by weights whose BatchNorm statistics are not of photos
    activation: str = "relu"  # of a ShuffleNetV2 backbone
    min_count: int = 5  # a word that occurs less often is <unk>
    max_vocabulary: int = 0  # so many words at most, special ones among them, the most frequent; 0: all of min_count
    max_words: int = 20  # longer captions are cut for training
    start_from: str = ""  # a checkpoint that the weights and the first words are taken from, to be learnt on
    # A checkpoint whose decoder and words take the place of those of start_from: it may know more of the world, where
    # both encoders learnt the features of one teacher.
    decoder_from: str = ""
    batch_size: int = 20  # photos, each with all of its captions
    dropout: float = 0.5
    weight_decay: float = 0.01
    clip_norm: float = 5.0
    crop: float = 0.75  # random crops keep at least this share of each side
    flip: bool = True
    keep_aspect: bool = False  # random crops keep the same share of both sides
    views: int = 4  # cached augmented views of each photo for stages on a frozen backbone
    precision: str = "auto"  # of the matrix products while training: bf16 | fp32 | auto, as precision.py decides
    workers: int = 0  # threads that read photos; 0: as many as cores are to spare, at most 4. Results are the same
    keep_photos: str = "auto"  # decoded, in memory: yes | no | auto, which is on a graphics card with room for them
    capture: bool = True  # on a graphics card: forward and backward pass of a step are one CUDA graph
    frozen_blocks: float = 0.0  # share of the backbone's blocks, the first ones, that never learn
    checkpoint_every: int = 50  # steps: what a killed run loses at most
    validate_every: int = 1  # epochs; the last of a stage always is
    label_smoothing: float = 0.0  # share of every target's probability that goes to all words alike
    # none | efficientnet-lite0 (-lite1, -lite2, -lite3) | clip:NAME-OR-FOLDER | captioner:FILE (a checkpoint; or a
    # .toml file, or large.toml for a recipe, which is trained first)
    teacher: str = "none"
    unlabelled: str = ""  # a folder of photos without captions, to distil on as well
    teacher_views: int = 2  # fixed views of each photo that the teacher is shown; each is mirrored half of the time
    alpha: float = 0.7  # end to end with a teacher: weight of the distance of the pooled features
    beta: float = 0.3  # end to end with a teacher: weight of the words
    spatial: float = 0.0  # end to end with a teacher: weight of the distance of each location
    task_teachers: str = ""  # such FILEs of captioners, with commas: their word distributions are learnt as well
    task_share: float = 0.5  # share of the words' loss that is the task teachers'
    temperature: float = 1.0  # of both distributions in it
    # end to end: fixed views that task teachers' features are cached of, and the teacher's; 0: task teachers encode
    # each photo as it comes
    task_views: int = 0
    # captions drawn from the task teachers for each unlabelled photo and each with one caption, learnt as others are
    pseudo_captions: int = 0
    pseudo_temperature: float = 0.5  # of the distribution that they are drawn from: at 0.1 nearly always the likeliest
    ema: float = 0.0  # decay of the averaged weights that are validated and kept; 0: none
    distillation: Distillation = field(default_factory=Distillation)
    language: Language = field(default_factory=Language)
    frozen: Stage = field(default_factory=lambda: Stage(epochs=8, learning_rate=8e-4))
    end_to_end: Stage = field(
        default_factory=lambda: Stage(epochs=10, learning_rate=1.5e-4, backbone_learning_rate=1.5e-4)
    )
    self_critical: SelfCritical = field(default_factory=SelfCritical)

    def __post_init__(self) -> None:
        rules = {
            f"preset must be one of {', '.join(presets())}": self.preset in presets(),
            "keep_photos must be auto, yes or no": self.keep_photos in ("auto", "yes", "no"),
            "frozen_blocks must be in [0, 1]": 0 <= self.frozen_blocks <= 1,
            "validate_every must be in [1, 10,000]": 1 <= self.validate_every <= MAX_EPOCHS,
            "batch_size, min_count, max_words, views, teacher_views and checkpoint_every must be at least 1": min(
                self.batch_size,
                self.min_count,
                self.max_words,
                self.views,
                self.teacher_views,
                self.checkpoint_every,
            )
            >= 1,
            "seed must be in [0, 2 ** 63)": 0 <= self.seed < 2**63,
            "dropout must be in [0, 1)": 0 <= self.dropout < 1,
            "crop must be in (0, 1]": 0 < self.crop <= 1,
            "weight_decay must not be negative": self.weight_decay >= 0,
            "clip_norm must be above 0": self.clip_norm > 0,
            "activation must be relu or leaky_relu": self.activation in ("relu", "leaky_relu"),
            "activation leaky_relu is for presets base and tiny": self.activation == "relu" or self.preset != "plus",
            "precision must be auto, bf16 or fp32": self.precision in ("auto", "bf16", "fp32"),
            f"workers must be in [0, {MAX_WORKERS}]": 0 <= self.workers <= MAX_WORKERS,
            "label_smoothing and ema must be in [0, 1)": all(
                0 <= share < 1 for share in (self.label_smoothing, self.ema)
            ),
            "task_share must be in [0, 1]": 0 <= self.task_share <= 1,
            "temperature must be finite and above 0": 0 < self.temperature < math.inf,
            "pseudo_captions must be in [0, 5]": 0 <= self.pseudo_captions <= MAX_PSEUDO_CAPTIONS,
            "pseudo_captions need task_teachers": not self.pseudo_captions or bool(self.task_teachers),
            "pseudo_temperature must be in [0.01, 10]": 0.01 <= self.pseudo_temperature <= 10,
            "decoder_from needs start_from": bool(self.start_from) or not self.decoder_from,
            "self_critical.neighbours need task_teachers": not self.self_critical.neighbours
            or bool(self.task_teachers),
            "task_views must not be negative": self.task_views >= 0,
            "task_views need task_teachers": not self.task_views or bool(self.task_teachers),
            "alpha, beta and spatial must be finite and not negative": all(
                0 <= weight < math.inf for weight in (self.alpha, self.beta, self.spatial)
            ),
            "max_vocabulary must be 0 or at least 5": self.max_vocabulary == 0 or 5 <= self.max_vocabulary < 2**63,
            f"batch_size must be at most {MAX_BATCH:,}": self.batch_size <= MAX_BATCH,
            f"max_words must be at most {MAX_LENGTH}": self.max_words <= MAX_LENGTH,
            f"views, teacher_views and task_views must be at most {MAX_VIEWS}": max(
                self.views, self.teacher_views, self.task_views
            )
            <= MAX_VIEWS,
            "min_count and checkpoint_every must be below 2 ** 63": max(self.min_count, self.checkpoint_every) < 2**63,
            "weight_decay must be at most 1": self.weight_decay <= 1,
            "distillation needs a teacher": self.teacher != "none" or not self.distillation.epochs,
        }
        problems = [rule for rule, holds in rules.items() if not holds]
        for name, stage in self.stages().items():
            problems += [f"{name}: {problem}" for problem in stage.problems()]
        if problems:
            raise ConfigError(f"training configuration: {problems[0]}")

    @property
    def task_teacher_names(self) -> list[str]:
        """The task teachers one by one."""
        return [name.strip() for name in self.task_teachers.split(",") if name.strip()]

    @property
    def augmentation(self) -> Augmentation:
        """What happens to training photos."""
        return Augmentation(self.crop, self.flip, self.keep_aspect)

    def stages(self) -> dict[str, Stage]:
        """The stages by name, in the order in which they run."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Stage)}

    def continues(self, begun: TrainConfig, stages: int) -> bool:
        """Whether a run of ``begun``, the first ``stages`` of whose stages have begun, may go on with this one."""
        # How photos are read changes nothing of them but, in memory, how their crops are interpolated.
        free = [*list(self.stages())[stages:], "workers", "keep_photos", "validate_every"]
        ours, theirs = self.to_json(), begun.to_json()
        return all(ours[name] == theirs[name] for name in ours if name not in free)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TrainConfig:
        """Check names and types, then build. Raises ``ConfigError`` naming the option."""
        try:
            return read_options(cls, _without_what_is_gone(document))
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"training configuration: {error}") from error


DATA = "data"  # of a TOML file: the datasets, which are no option but what a run is given

# Options that lost in benchmarks/ABLATIONS.md and are no more, with the value that means nothing.
GONE = {"scheduled_sampling": 0.0, "attention_penalty": 0.0}


def _without_what_is_gone(document: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of before, as in a checkpoint. Raises ``ConfigError`` for one that used such an option."""
    for name, nothing in GONE.items():
        if document.get(name, nothing) != nothing:
            raise ConfigError(f"training configuration: there is no option {name!r} any more: it made captions worse")
    return {name: value for name, value in document.items() if name not in GONE}


def load_config(path: Path | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a TOML file (or the defaults) with ``overrides``, dotted names such as ``frozen.epochs``."""
    document = {} if path is None else _toml(path)
    return changed_config({name: value for name, value in document.items() if name != DATA}, overrides)


def data_of(path: Path) -> list[DataSource]:
    """The datasets that a TOML file names, if any, as its list ``data``. Raises ``ConfigError``."""
    listed = _toml(path).get(DATA, [])
    if not isinstance(listed, list):
        raise ConfigError(f"{path}: data must be a list")
    return [DataSource.from_toml(one) for one in listed]


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_regular(path, MAX_TOML_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not a readable TOML file: {brief(error)}") from error


def changed_config(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> TrainConfig:
    """The configuration of a document, as in a checkpoint, with ``overrides``.

    Raises ``ConfigError``, and where it works without the overrides ``ConfigOptionError``.
    """
    try:
        return _changed(document, overrides)
    except ConfigError as error:
        if not overrides:
            raise
        TrainConfig.from_json(document)
        raise ConfigOptionError(str(error)) from error


def _changed(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> TrainConfig:
    changed = copy.deepcopy(dict(document))
    for name, value in overrides.items():
        table = changed
        *parents, leaf = name.split(".")
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f"training configuration: {parent} must be a table to have {name!r}")
        table[leaf] = value
    return TrainConfig.from_json(changed)
