"""Every error that edgecap raises on purpose.

Each is also the builtin that a caller would expect, its message is one line that says what is wrong,
with which file, and what to do; the CLI prints that line and exits with :data:`EXIT_FAILURE`.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

EXIT_FAILURE = 1  # the work failed, or a part of it (some photos)
EXIT_USAGE = 2  # the command line itself was wrong

Source = str | PathLike[str]


def brief(error: object) -> str:
    """What a library or a program says, on one line and of bearable length, to be part of a message of ours."""
    return " ".join(str(error).split())[:300]


class EdgecapError(Exception):
    """Base of all errors below. They arrive in another process as they are."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would make them again from the message alone, and a pool of processes would wait for ever.
        return _again, (type(self), self.args, vars(self))


def _again(kind: type[EdgecapError], arguments: tuple[Any, ...], facts: dict[str, Any]) -> EdgecapError:
    error = kind.__new__(kind, *arguments)
    vars(error).update(facts)
    return error


class ImageError(EdgecapError, ValueError):
    """A photo that cannot be read."""

    def __init__(self, source: Source, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source
        self.problem = problem


class UnreadFormatError(ImageError):
    """A file of a format that is not read; ``kind`` names it, and is empty for one that is no picture at all.

    ``advice`` says what to do.
    """

    def __init__(self, source: Source, kind: str, advice: str) -> None:
        super().__init__(source, f"is {kind}, which is not read here: {advice}" if kind else advice)
        self.kind = kind
        self.advice = advice


class BundleError(EdgecapError, ValueError):
    """A bundle that is missing, torn, edited, or made for another runtime."""

    def __init__(self, path: Source, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class UnsupportedGraphError(BundleError):
    """A graph that an engine refuses to load: it is made for a newer engine, or it is none."""

    def __init__(self, path: Source, engine: str, problem: str) -> None:
        super().__init__(path, f"does not load in {engine}: {problem}")
        self.engine = engine
        self.problem = problem


class OptionError(EdgecapError, ValueError):
    """An option with a value that cannot work."""


class TaskError(BundleError, OptionError):
    """A bundle that is whole and for something else: a labeller where captions were asked for."""


class TuningError(EdgecapError, ValueError):
    """Measurements of this machine that cannot be believed; captioning goes on without."""

    def __init__(self, path: Source, problem: str) -> None:
        super().__init__(f"{path}: {problem}: run  edgecap bench --sweep  again")
        self.path = path
        self.problem = problem


class MissingExtraError(EdgecapError, ImportError):
    """A library is absent that one of the extras installs."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed: run  pip install 'edgecap[{extra}]'")
        self.extra = extra


class DataError(EdgecapError, ValueError):
    """A dataset with a missing or broken split, photo or caption."""

    def __init__(self, path: Source, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class ConfigError(EdgecapError, ValueError):
    """A training configuration that cannot work."""


class ConfigOptionError(ConfigError, OptionError):
    """The same, by an option of the command line: without it the configuration works."""


class TrainingError(EdgecapError, ArithmeticError):
    """A run whose numbers left the finite."""


class CheckpointError(EdgecapError, ValueError):
    """A checkpoint that is missing, broken, or of another preset."""

    def __init__(self, path: Source, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class ExportError(EdgecapError, RuntimeError):
    """An export stage that failed; names the stage and the graph."""

    def __init__(self, stage: str, graph: str, problem: str) -> None:
        super().__init__(f"export failed at {stage} of {graph}: {problem}")
        self.stage = stage
        self.graph = graph


class MetricError(EdgecapError, RuntimeError):
    """A metric that cannot be computed here."""


class EngineError(EdgecapError, RuntimeError):
    """An inference engine that failed, or returned what no caption can be made of."""


class EnergyError(EdgecapError, RuntimeError):
    """A sensor of energy that is not readable, stopped answering, or saw nothing."""
