"""Networks that a student's encoder learns from: each turns photos into a map of features and one embedding."""

from __future__ import annotations

from edgecap.errors import ConfigError
from edgecap.model.teachers.teacher import Teacher, TeacherFeatures

__all__ = ["Teacher", "TeacherFeatures", "load_teacher"]

LITE, CLIP = "efficientnet-", "clip:"
NAMES = "efficientnet-lite0, -lite1, -lite2, -lite3, clip:NAME-OR-FOLDER, or several with + between them"


def load_teacher(name: str) -> Teacher:
    """The teacher called ``name``, one of :data:`NAMES`.

    Raises ``ConfigError``, ``MissingExtraError`` or ``CheckpointError``.
    """
    if "+" in name and not name.startswith(CLIP):
        from edgecap.model.teachers.ensemble import EnsembleTeacher

        return EnsembleTeacher([load_teacher(member) for member in name.split("+")])
    if name.startswith(CLIP):
        from edgecap.model.teachers.clip import ClipTeacher

        return ClipTeacher(name.removeprefix(CLIP))
    if name.startswith(LITE):
        from edgecap.model.teachers.lite import LiteTeacher

        return LiteTeacher(name.removeprefix(LITE))
    raise ConfigError(f"unknown teacher {name!r}: choose one of {NAMES}")
