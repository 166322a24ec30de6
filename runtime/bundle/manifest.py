"""``manifest.json``: what a bundle says about itself and about each of its files."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import Any

from edgecap.runtime.bundle.fields import Fields

SCHEMA_VERSION = 1

GRAPH_ROLES = ("encoder", "decoder_step")
DOCUMENT_ROLES = ("preprocess", "vocab", "generation")  # JSON that the runtime reads: exactly one file each
OPTIONAL_DOCUMENT_ROLES = ("confidence",)  # likewise, but at most one file each
OTHER_ROLES = ("golden", "eval", "calibration", "card", "recipe", "graphs")
ROLES = GRAPH_ROLES + DOCUMENT_ROLES + OPTIONAL_DOCUMENT_ROLES + OTHER_ROLES
RUNTIMES = ("onnx", "tflite")
PRECISIONS = ("int8", "fp16", "fp32")  # fastest first: the order in which "auto" chooses

# Bytes that a file may have, so that one to be read whole fits into the memory of a board. Parsed JSON takes up to
# some fifty times as much as its text.
MAX_MANIFEST_BYTES = 2**20
MAX_GRAPH_BYTES = 2**29
MAX_DOCUMENT_BYTES = 2**22
MAX_OTHER_BYTES = 2**24
MAX_BYTES = {
    **dict.fromkeys(GRAPH_ROLES, MAX_GRAPH_BYTES),
    **dict.fromkeys((*DOCUMENT_ROLES, *OPTIONAL_DOCUMENT_ROLES, "golden", "eval", "graphs"), MAX_DOCUMENT_BYTES),
    **dict.fromkeys(("calibration", "card", "recipe"), MAX_OTHER_BYTES),  # never parsed
}
MAX_PATH = 255  # bytes

DIGEST_KEY = "manifest_sha256"
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
class FileEntry:
    """One file of a bundle. ``path`` is relative to the bundle, with forward slashes; ``bytes`` is the file's size.

    ``runtime`` and ``precision`` are ``None`` and the tensors empty for all but graphs; ``opset`` and ``ir_version``
    are ONNX's, ``signatures`` LiteRT's. ``passes_gate`` says whether the captions of the graph's precision stayed
    within the limits of the export's recipe; ``None`` where they were not measured.
    """

    path: str
    role: str
    sha256: str
    bytes: int
    runtime: str | None = None
    precision: str | None = None
    opset: int | None = None
    ir_version: int | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    signatures: tuple[str, ...] = ()
    passes_gate: bool | None = None

    def __post_init__(self) -> None:
        if not is_inside(self.path):
            raise ValueError(f"the path {self.path!r} leads out of the bundle")
        if self.role not in ROLES:
            raise ValueError(f"{self.path} has the unknown role {self.role!r}")
        if not _SHA256.fullmatch(self.sha256) or self.bytes < 0:
            raise ValueError(f"{self.path} has no valid sha256 and size")
        if self.bytes > MAX_BYTES[self.role]:
            raise ValueError(f"{self.path} is larger than {MAX_BYTES[self.role]} bytes, the most for {self.role!r}")
        if self.role in GRAPH_ROLES and (self.runtime not in RUNTIMES or self.precision not in PRECISIONS):
            raise ValueError(f"{self.path} is a graph of unknown runtime or precision")

    @classmethod
    def from_json(cls, entry: Fields) -> FileEntry:
        """Inverse of ``asdict``. Raises ``ValueError``."""
        return cls(
            path=entry.get("path", str),
            role=entry.get("role", str),
            sha256=entry.get("sha256", str),
            bytes=entry.get("bytes", int),
            runtime=entry.optional("runtime", str),
            precision=entry.optional("precision", str),
            opset=entry.optional("opset", int),
            ir_version=entry.optional("ir_version", int),
            inputs=tuple(TensorSpec.from_json(tensor) for tensor in entry.objects("inputs")),
            outputs=tuple(TensorSpec.from_json(tensor) for tensor in entry.objects("outputs")),
            signatures=entry.values("signatures", str) if entry.has("signatures") else (),
            passes_gate=entry.optional("passes_gate", bool),
        )


@dataclass(frozen=True)
class Dims:
    """Sizes that both graphs and the documents of a bundle share."""

    image_size: int  # S, pixels of a side
    locations: int  # L, a square number: 49 is the 7 x 7 map
    feature_dim: int  # D
    key_dim: int  # A
    hidden_dim: int  # H
    vocab_size: int  # V

    def __post_init__(self) -> None:
        for name, size in asdict(self).items():
            if size < 1:
                raise ValueError(f"dims.{name} must be positive, not {size}")
        if math.isqrt(self.locations) ** 2 != self.locations:
            raise ValueError(f"dims.locations must be a square number, not {self.locations}")

    @classmethod
    def from_json(cls, entry: Fields) -> Dims:
        """Inverse of ``asdict``. Raises ``ValueError``."""
        return cls(**{field.name: entry.get(field.name, int) for field in fields(cls)})


@dataclass(frozen=True)
class Manifest:
    """The whole of ``manifest.json``."""

    bundle_id: str
    name: str
    preset: str
    created_by: str
    min_runtime: str
    dims: Dims
    files: tuple[FileEntry, ...]
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for path, count in Counter(entry.path for entry in self.files).items():
            if count > 1:
                raise ValueError(f"{path} is listed twice")
        roles = [entry.role for entry in self.files]
        for role in DOCUMENT_ROLES:
            if roles.count(role) != 1:
                raise ValueError(f"one file of the role {role!r} is needed")
        for role in OPTIONAL_DOCUMENT_ROLES:
            if roles.count(role) > 1:
                raise ValueError(f"at most one file of the role {role!r} is allowed")
        if self.bundle_id != bundle_id(self.files):
            raise ValueError("bundle_id does not match the files listed")

    @property
    def label(self) -> str:
        """What people and logs call the bundle: its name and the start of its id, ``plus@7b3b8632c44e``."""
        return f"{self.name}@{self.bundle_id[:12]}"

    def to_json(self) -> dict[str, Any]:
        """The content of ``manifest.json``, with the digest that guards the manifest itself."""
        document: dict[str, Any] = asdict(self)
        return {**document, DIGEST_KEY: digest(document)}

    def to_bytes(self) -> bytes:
        """``manifest.json`` as it is written."""
        return written(self.to_json())

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Manifest:
        """Inverse of :meth:`to_json`; other keys are ignored, but are under the digest. Raises ``ValueError``."""
        entry = Fields(document, "manifest")
        if entry.get(DIGEST_KEY, str) != digest(document):
            raise ValueError(f"its content does not match {DIGEST_KEY}: torn or edited; export or install it again")
        return cls(
            bundle_id=entry.get("bundle_id", str),
            name=entry.get("name", str),
            preset=entry.get("preset", str),
            created_by=entry.get("created_by", str),
            min_runtime=entry.get("min_runtime", str),
            dims=Dims.from_json(entry.object("dims")),
            files=tuple(FileEntry.from_json(file) for file in entry.objects("files")),
            schema_version=entry.get("schema_version", int),
        )


def bundle_id(files: Iterable[FileEntry]) -> str:
    """The identity of a bundle: SHA-256 over the sorted lines ``path sha256`` of its files."""
    lines = sorted(f"{entry.path} {entry.sha256}\n" for entry in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def written(document: Mapping[str, Any]) -> bytes:
    """The one way to write the content of a manifest: in any other, a byte of it has been changed."""
    return (json.dumps(document, indent=1) + "\n").encode()


def set_name(runtime: str, precision: str) -> str:
    """What documents of a bundle call the two graphs of a runtime and precision: ``onnx-int8``."""
    return f"{runtime}-{precision}"


def digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's content without the digest itself; white space and order of keys do not count."""
    content = {key: value for key, value in document.items() if key != DIGEST_KEY}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_inside(path: str) -> bool:
    """Whether ``path`` is relative, in plain form with forward slashes, and stays below the directory it starts in.

    It also has a length that file systems take, and none of the characters that no screen shows, such as NUL.
    """
    pure = PurePosixPath(path)
    plain = str(pure) == path and path != "." and "\\" not in path and ":" not in path and path.isprintable()
    return plain and not pure.is_absolute() and ".." not in pure.parts and len(path.encode()) <= MAX_PATH
