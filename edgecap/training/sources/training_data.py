"""The photos, captions and words that every stage of a run has in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgecap.data.karpathy import CaptionedPhoto
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.photo.preprocess import PreprocessConfig


@dataclass(frozen=True)
class TrainingData:
    """What every stage learns from and is judged on."""

    train: tuple[CaptionedPhoto, ...]
    val: tuple[CaptionedPhoto, ...]
    vocabulary: Vocabulary
    preprocess: PreprocessConfig
    captioned_by_teachers: tuple[CaptionedPhoto, ...] = ()  # more to learn from, but not to be rewarded by

    @property
    def groups(self) -> list[list[Path]]:
        """The same photos, those captioned by people and those by teachers: not every run has both."""
        return [[photo.path for photo in group] for group in (self.train, self.captioned_by_teachers)]

    @property
    def learnt(self) -> tuple[CaptionedPhoto, ...]:
        """All photos with captions, those of people first."""
        return (*self.train, *self.captioned_by_teachers)

    @property
    def paths(self) -> list[Path]:
        """The files of the same photos, in the same order."""
        return [photo.path for photo in self.learnt]
