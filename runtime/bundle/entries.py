"""What ``manifest.json`` lists: files, what is known of the graphs among them, and the sets that graphs form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from edgecap.runtime.bundle.fields import Fields

ENGINES = ("onnx", "tflite")
PRECISIONS = ("int8", "fp16", "fp32")  # of a graph, the coarsest first
GRAPH = "graph"  # the role of a file; what the graph is for, its set says
DOCUMENT_ROLES = ("preprocess", "vocab", "generation", "confidence")  # JSON that is read when a bundle is opened
OTHER_ROLES = ("golden", "eval", "calibration", "card", "recipe", "graphs")
ROLES = (GRAPH, *DOCUMENT_ROLES, *OTHER_ROLES)

# Bytes that a file may have, so that one to be read whole fits into the memory of a board. Parsed JSON takes up to
# some fifty times as much as its text.
MAX_MANIFEST_BYTES = 2**20
MAX_GRAPH_BYTES = 2**29
MAX_DOCUMENT_BYTES = 2**22
MAX_OTHER_BYTES = 2**24
MAX_BYTES = {
    GRAPH: MAX_GRAPH_BYTES,
    **dict.fromkeys((*DOCUMENT_ROLES, "golden", "eval", "graphs"), MAX_DOCUMENT_BYTES),
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

    @classmethod
    def from_json(cls, entry: Fields) -> TensorSpec:
        """Inverse of ``asdict``. Raises ``ValueError``."""
        shape = entry.items("shape")
        if not all(type(axis) in (int, str) for axis in shape):
            raise ValueError(f"the shape of {entry.get('name', str)!r} must hold whole numbers and names of axes")
        return cls(entry.get("name", str), entry.get("dtype", str), tuple(shape))


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

    @classmethod
    def from_json(cls, entry: Fields) -> GraphEntry:
        """Inverse of ``asdict``. Raises ``ValueError``."""
        return cls(
            engine=entry.get("engine", str),
            precision=entry.get("precision", str),
            inputs=tuple(TensorSpec.from_json(tensor) for tensor in entry.objects("inputs")),
            outputs=tuple(TensorSpec.from_json(tensor) for tensor in entry.objects("outputs")),
            opset=entry.optional("opset", int),
            ir_version=entry.optional("ir_version", int),
            signatures=entry.values("signatures", str) if entry.has("signatures") else (),
        )


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

    @classmethod
    def from_json(cls, entry: Fields) -> FileEntry:
        """Inverse of ``asdict``. Raises ``ValueError``."""
        return cls(
            path=entry.get("path", str),
            role=entry.get("role", str),
            sha256=entry.get("sha256", str),
            bytes=entry.get("bytes", int),
            graph=GraphEntry.from_json(entry.object("graph")) if entry.has("graph") else None,
        )


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

    @classmethod
    def from_json(cls, entry: Fields) -> GraphSet:
        """Inverse of ``asdict``. Raises ``ValueError``."""
        graphs = entry.object("graphs")
        return cls(
            name=entry.get("name", str),
            engine=entry.get("engine", str),
            graphs={role: graphs.get(role, str) for role in graphs.names()},
            passes_gate=entry.optional("passes_gate", bool),
        )


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
