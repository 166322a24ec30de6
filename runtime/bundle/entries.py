"""What ``manifest.json`` lists: files, what is known of the graphs among them, and the sets that graphs form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

ENGINES = ("onnx", "tflite")
PRECISIONS = ("int8", "fp16", "fp32")  # of a graph, the coarsest first
GRAPH = "graph"  # the role of a file; what the graph is for, its set says
# JSON that is read when a bundle is opened
DOCUMENT_ROLES = ("preprocess", "vocab", "generation", "confidence", "labels")
OTHER_ROLES = ("golden", "eval", "calibration", "card", "recipe", "graphs")
ROLES = (GRAPH, *DOCUMENT_ROLES, *OTHER_ROLES)

# Bytes that a file may have, so that one to be read whole fits into the memory of a board. Parsed JSON takes up to
# some fifty times as much as its text.
MAX_MANIFEST_BYTES = 2**20
MAX_GRAPH_BYTES = 2**29
MAX_DOCUMENT_BYTES = 2**22
MAX_TABLE_BYTES = 150_000_000  # 100,000 labels of 512 halves; nearly all of it text that is taken as it is
MAX_OTHER_BYTES = 2**24
MAX_BYTES = {
    GRAPH: MAX_GRAPH_BYTES,
    **dict.fromkeys((*DOCUMENT_ROLES, "golden", "eval", "graphs"), MAX_DOCUMENT_BYTES),
    "labels": MAX_TABLE_BYTES,
    **dict.fromkeys(("calibration", "card", "recipe"), MAX_OTHER_BYTES),  # never parsed
}
MAX_PATH = 255  # bytes

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LABEL = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class TensorSpec:
    """A named input or output of a graph; ``shape`` names its dynamic axes: ``("N", "K", 512)``."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphEntry:
    """What is known of a graph: the engine that runs it, the precision of its weights, and its tensors.

    ``opset`` and ``ir_version`` are ONNX's, ``signatures`` LiteRT's.
    """

    engine: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int | None = None
    ir_version: int | None = None
    signatures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"a graph is for the unknown engine {self.engine!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"a graph has the unknown precision {self.precision!r}")
        for tensors in (self.inputs, self.outputs):
            names = [tensor.name for tensor in tensors]
            if len(set(names)) < len(names):
                raise ValueError(f"a graph lists two tensors of one name among {names}")


@dataclass(frozen=True)
class FileEntry:
    """One file of a bundle. ``path`` is relative to the bundle, with forward slashes; ``bytes`` is the file's size."""

    path: str
    role: str
    sha256: str
    bytes: int
    graph: GraphEntry | None = None  # of a graph, and of nothing else

    def __post_init__(self) -> None:
        if not is_inside(self.path):
            raise ValueError(f"the path {self.path!r} leads out of the bundle")
        if self.role not in ROLES:
            raise ValueError(f"{self.path} has the unknown role {self.role!r}")
        if not _SHA256.fullmatch(self.sha256) or self.bytes < 0:
            raise ValueError(f"{self.path} has no valid sha256 and size")
        if self.bytes > MAX_BYTES[self.role]:
            raise ValueError(f"{self.path} is larger than {MAX_BYTES[self.role]} bytes, the most for {self.role!r}")
        if (self.role == GRAPH) != (self.graph is not None):
            raise ValueError(f"{self.path} must say what graph it is" if self.role == GRAPH else f"{self.path} is none")


@dataclass(frozen=True)
class GraphSet:
    """The graphs that run together in an engine, by role. They may be of several precisions.

    ``passes_gate`` says whether the captions of the set stayed within the limits of the export's recipe; ``None`` where
    they were not measured.
    """

    name: str  # engine and label: onnx-int8
    engine: str
    graphs: Mapping[str, str]  # paths by role
    passes_gate: bool | None = None

    def __post_init__(self) -> None:
        label = self.name.removeprefix(f"{self.engine}-")
        if label == self.name or not _LABEL.fullmatch(label):
            raise ValueError(f"the graph set {self.name!r} must be called {self.engine}- and a word")

    @property
    def precision(self) -> str:
        """What the set is asked for by: the precision of its graphs, or a word for their mixture."""
        return self.name.removeprefix(f"{self.engine}-")


def set_name(engine: str, precision: str) -> str:
    """The name of a graph set: ``onnx-int8``."""
    return f"{engine}-{precision}"


def is_inside(path: str) -> bool:
    """Whether ``path`` is relative, in plain form with forward slashes, and stays below the directory it starts in.

    It also has a length that file systems take, and none of the characters that no screen shows, such as NUL.
    """
    pure = PurePosixPath(path)
    plain = str(pure) == path and path != "." and "\\" not in path and ":" not in path and path.isprintable()
    return plain and not pure.is_absolute() and ".." not in pure.parts and len(path.encode()) <= MAX_PATH
