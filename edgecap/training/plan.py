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
from edgecap.training.sources.captions import Captions
from edgecap.training.sources.fixed_views import FixedViews
from edgecap.training.sources.source import Source
from edgecap.training.sources.training_data import TrainingData
from edgecap.training.sources.views import CachedGrids, MirroredPhotos, PhotosAnew, PhotosInViews
from edgecap.training.stages.distillation import DistillationStage
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
    captions = Captions(data.learnt, data.vocabulary, config.max_words)
    grids, teacher, head = CachedGrids(config, model, data), None, None
    if config.teacher != "none":
        teacher = _teacher_cache(config, data)
        head = TeacherHead(model.dims.feature_dim, teacher.teacher)
        if config.distillation.epochs:
            stages.append(DistillationStage(config.distillation, config, model, data, teacher, head))
    if config.language.epochs:
        stages.append(LanguageStage(config.language, config, model, data))
    if config.frozen.epochs:
        source = Source(data, grids, captions, task_teacher=task)
        stages.append(CaptionStage("frozen", config.frozen, config, model, data, source))
    if config.end_to_end.epochs:
        beside = teacher if config.alpha or config.spatial else None
        source = _end_to_end(config, model, data, captions, beside, task)
        stages.append(CaptionStage("end_to_end", config.end_to_end, config, model, data, source, head))
    if config.self_critical.epochs:
        source = Source(data, grids, captions)
        if config.self_critical.backbone_learning_rate:
            source = Source(data, PhotosAnew(config, model, data), captions)
        stages.append(SelfCriticalStage(config.self_critical, config, model, data, source, task))
    return Plan(tuple(stages), head)


def _teacher_cache(config: TrainConfig, data: TrainingData) -> TeacherCache:
    paths = [*(photo.path for photo in data.train), *data.unlabelled]
    views = FixedViews.of(
        config, config.teacher_views, data.photos, flip=False
    )  # its maps are mirrored with the photos
    return TeacherCache(load_teacher(config.teacher), paths, [photo.path for photo in data.val], views)


def _end_to_end(
    config: TrainConfig,
    model: CaptionNetwork,
    data: TrainingData,
    captions: Captions,
    teacher: TeacherCache | None,
    task: TaskTeacher | None,
) -> Source:
    """Photos augmented anew, unless they come in the fixed views of which task teachers or a teacher know features."""
    if config.task_views:
        fixed = FixedViews.of(config, config.task_views, data.photos)
        if teacher is not None:  # its own features are of other views
            teacher = TeacherCache(teacher.teacher, teacher.paths, (), fixed)
        return Source(data, PhotosInViews(config, model, data, fixed), captions, teacher, task)
    if teacher is not None:
        views = MirroredPhotos(config, model, data, teacher.views, teacher.paths)
        return Source(data, views, captions, teacher, task)
    return Source(data, PhotosAnew(config, model, data), captions, None, task)


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
