"""One photo of a document in Karpathy's format: what of its captions can be used, and by which name it goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from edgecap.data.omissions import CAPTION, PHOTO, Omissions
from edgecap.data.sentences import tokenize
from edgecap.errors import DataError
from edgecap.runtime.bundle.vocabulary import END, MAX_TOKEN, PAD, START

SHOWN = 60  # characters of a name or word from a document, in a message


class Entry(NamedTuple):
    """A photo by its name within the photo folder, and the tokens of each of its captions."""

    split: str
    name: str
    captions: tuple[tuple[str, ...], ...]


class UnusableError(ValueError):
    """A caption that nothing can be learnt from; says why."""


class EntryReader:
    """Reads the photos of the document ``source``; what cannot be used goes to ``omissions``."""

    def __init__(self, source: Path, omissions: Omissions) -> None:
        self._source, self._omissions = source, omissions
        self.tokenised = 0  # captions without tokens

    def entries(self, images: list[Any]) -> Iterator[Entry]:
        """Raises ``DataError`` for a name that leads out of the photo folder."""
        for position, image in enumerate(images):
            if (entry := self._entry(position, image)) is not None:
                yield entry

    def _entry(self, position: int, image: Any) -> Entry | None:
        problem = _problem(image)
        if problem:
            self._omissions.leave_out(PHOTO, f"images[{position}]", problem)
            return None
        name = self._name(image.get("filepath") or "", image["filename"])
        captions = tuple(self._captions(name, image["sentences"]))
        if not captions:
            self._omissions.leave_out(PHOTO, f"photo {name:.{SHOWN}}", "has no captions that can be used")
            return None
        # COCO's restval is part of train in Karpathy's split.
        return Entry("train" if image["split"] == "restval" else image["split"], name, captions)

    def _name(self, subfolder: str, filename: str) -> str:
        path = PurePosixPath(subfolder, filename)
        if path.is_absolute() or ".." in path.parts:
            raise DataError(self._source, f"photo {str(path)!r:.{SHOWN}} leads out of the photo folder")
        return str(path)

    def _captions(self, name: str, sentences: list[Any]) -> Iterator[tuple[str, ...]]:
        for number, sentence in enumerate(sentences):
            try:
                yield self._tokens(sentence)
            except UnusableError as error:
                self._omissions.leave_out(CAPTION, f"caption {number} of photo {name:.{SHOWN}}", str(error))

    def _tokens(self, sentence: Any) -> tuple[str, ...]:
        """Of a caption that has none, those of its text."""
        if isinstance(sentence, str):
            sentence = {"raw": sentence}
        if not isinstance(sentence, dict):
            raise UnusableError("is neither text nor has it words")
        tokens, text = sentence.get("tokens"), sentence.get("raw")
        bare = not tokens and isinstance(text, str)
        if bare:
            tokens = list(tokenize(str(text)))
        if tokens is None or tokens == []:
            raise UnusableError("has no words")
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise UnusableError("has no list of words 'tokens'")
        for token in tokens:
            if problem := _word_problem(token):
                raise UnusableError(problem)
        self.tokenised += bare
        return tuple(tokens)


def _problem(image: Any) -> str | None:
    if not isinstance(image, dict) or not {"filename", "split", "sentences"} <= image.keys():
        return "lacks 'filename', 'split' or 'sentences'"
    texts = (image["filename"], image["split"], image.get("filepath") or "")
    if not all(isinstance(text, str) for text in texts) or not (image["filename"] and image["split"]):
        return "has a 'filename', 'filepath' or 'split' that is no text"
    if not isinstance(image["sentences"], list):
        return "has no list of captions 'sentences'"
    return None


def _word_problem(token: str) -> str | None:
    if len(token) > MAX_TOKEN:
        return f"has a word of {len(token):,} characters"
    if not token or not token.isprintable() or " " in token:
        return f"has a word {token!r:.{SHOWN}} that is none"
    if token in (PAD, START, END):
        return f"has the word {token}, which stands for something else"
    return None
