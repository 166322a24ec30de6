"""The stages that a configuration asks for, in their order."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edgecap.architectures.network import CaptionNetwork
from edgecap.data.omissions import Omissions
from edgecap.data.photo_check import readable_paths
from edgecap.errors import DataError
from edgecap.runtime.photo.folder import photos_in
from edgecap.training.config import TrainConfig
from edgecap.training.sources.source import CachedGrids, Photos, PhotosInViews, Source, TrainingData
from edgecap.training.stages.distillation import DistillationStage, TaughtPhotos
from edgecap.training.stages.language import LanguageStage
from edgecap.training.stages.self_critical import SelfCriticalStage
from edgecap.training.stages.stage import CaptionStage, TrainingStage
from edgecap.training.teachers import load_teacher
from edgecap.training.teachers.task_teacher import TaskTeacher
from edgecap.training.teachers.teacher_cache import TeacherCache
from edgecap.training.teachers.teacher_head import TeacherHead


class Plan(NamedTuple):
    """Those stages that have epochs, and the head towards the teacher, if there is one."""

    stages: tuple[TrainingStage, ...]
    head: TeacherHead | None


def plan(config: TrainConfig, model: CaptionNetwork, data: TrainingData, task: TaskTeacher | None = None) -> Plan:
    """Raises ``ConfigError``, ``DataError``, ``MissingExtraError`` or ``CheckpointError`` before anything is learnt."""
    stages: list[TrainingStage] = []
    cached: Source = CachedGrids(config, model, data, task)
    photos: Source = Photos(config, model, data, task)
    taught, head = (PhotosInViews(config, model, data, task) if config.task_views else photos), None
    if config.teacher != "none":
        teacher = _teacher_cache(config, data)
        head = TeacherHead(model.dims.feature_dim, teacher.teacher)
        if config.distillation.epochs:
            stages.append(DistillationStage(config.distillation, config, model, data, teacher, head))
        if config.alpha or config.spatial:
            taught = TaughtPhotos(config, model, data, teacher, task)
    if config.language.epochs:
        stages.append(LanguageStage(config.language, config, model, data))
    if config.frozen.epochs:
        stages.append(CaptionStage("frozen", config.frozen, config, model, data, cached, None, task))
    if config.end_to_end.epochs:
        stages.append(CaptionStage("end_to_end", config.end_to_end, config, model, data, taught, head, task))
    if config.self_critical.epochs:
        source = photos if config.self_critical.backbone_learning_rate else cached
        stages.append(SelfCriticalStage(config.self_critical, config, model, data, source))
    return Plan(tuple(stages), head)


def _teacher_cache(config: TrainConfig, data: TrainingData) -> TeacherCache:
    unlabelled = photos_of(Path(config.unlabelled)) if config.unlabelled else []
    paths = [*(photo.path for photo in data.train), *unlabelled]
    return TeacherCache(load_teacher(config.teacher), paths, [photo.path for photo in data.val], config)


def photos_of(folder: Path) -> list[Path]:
    """The photos in a folder that can be read, without those in its folders, sorted. Raises ``DataError``."""
    if not folder.is_dir():
        raise DataError(folder, "no such folder of photos")
    omissions = Omissions(folder)
    listed, _ = photos_in(folder)
    photos = list(readable_paths(listed, omissions))
    omissions.report()
    if not photos:
        raise DataError(folder, "holds no photo")
    return photos
