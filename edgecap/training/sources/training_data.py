"""The photos, captions and words that every stage of a run has in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from edgecap.data.karpathy import CaptionedPhoto
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.training.sources.photos import PhotoFiles, Photos


@dataclass(frozen=True)
class TrainingData:
    """What every stage learns from and is judged on."""

    train: tuple[CaptionedPhoto, ...]
    val: tuple[CaptionedPhoto, ...]
    vocabulary: Vocabulary
    preprocess: PreprocessConfig
    captioned_by_teachers: tuple[CaptionedPhoto, ...] = ()  # more to learn from, but not to be rewarded by
    by_people: tuple[CaptionedPhoto, ...] = ()  # train without the captions that teachers gave it, if they did
    unlabelled: tuple[Path, ...] = ()  # without captions
    photos: Photos = field(default_factory=PhotoFiles)  # where the pixels of all of them come from
    # Of several datasets, whose photos of train stand one after the other: how many each has, and its weight
    parts: tuple[tuple[int, float], ...] = ()

    @property
    def groups(self) -> list[list[Path]]:
        """The photos that are learnt, by dataset, then those captioned by teachers: not every run has all of these."""
        groups = [list(photos) for _, photos in groupby(self.train, key=lambda photo: photo.dataset)]
        return [[photo.path for photo in group] for group in (*groups, self.captioned_by_teachers)]

    @property
    def val_groups(self) -> list[list[Path]]:
        """The photos of val, by dataset."""
        return [[photo.path for photo in group] for _, group in groupby(self.val, key=lambda photo: photo.dataset)]

    @property
    def learnt_parts(self) -> tuple[tuple[int, float], ...]:
        """``parts`` of :attr:`learnt`; empty where all photos count alike."""
        own = len(self.captioned_by_teachers)
        return (*self.parts, (own, 1.0)) if self.parts and own else self.parts

    @property
    def learnt(self) -> tuple[CaptionedPhoto, ...]:
        """All photos with captions, those of people first."""
        return (*self.train, *self.captioned_by_teachers)

    @property
    def paths(self) -> list[Path]:
        """The files of the same photos, in the same order."""
        return [photo.path for photo in self.learnt]
