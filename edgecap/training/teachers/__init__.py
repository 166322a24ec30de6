"""Networks that a student's encoder learns from: each turns photos into a map of features and one embedding."""

from __future__ import annotations

from pathlib import Path

from edgecap.errors import ConfigError
from edgecap.training.teachers.teacher import Teacher, TeacherFeatures

__all__ = ["Teacher", "TeacherFeatures", "load_teacher"]

LITE, CLIP, CAPTIONER = "efficientnet-", "clip:", "captioner:"
NAMES = "efficientnet-lite0 to -lite3, clip:NAME-OR-FOLDER, captioner:FILE, or several lites with + between them"


def load_teacher(name: str) -> Teacher:
    """The teacher called ``name``, one of :data:`NAMES`.

    Raises ``ConfigError``, ``MissingExtraError`` or ``CheckpointError``.
    """
    if name.startswith(CAPTIONER):
        from edgecap.training.teachers.captioner_teacher import CaptionerTeacher

        return CaptionerTeacher(Path(name.removeprefix(CAPTIONER)))
    if "+" in name and not name.startswith(CLIP):
        from edgecap.training.teachers.ensemble import EnsembleTeacher

        return EnsembleTeacher([load_teacher(member) for member in name.split("+")])
    if name.startswith(CLIP):
        from edgecap.training.teachers.clip import ClipTeacher

        return ClipTeacher(name.removeprefix(CLIP))
    if name.startswith(LITE):
        from edgecap.training.teachers.lite import LiteTeacher

        return LiteTeacher(name.removeprefix(LITE))
    raise ConfigError(f"unknown teacher {name!r}: choose one of {NAMES}")
