"""A bundle: the directory that holds a captioner, opened and verified.

Nothing of a bundle is used before its size and SHA-256 were found to be those of ``manifest.json``.
The parts of the schema are here for the exporter too: :class:`Manifest`, :class:`FileEntry`, :func:`bundle_id`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import edgecap
from edgecap.errors import BundleError
from edgecap.runtime.confidence import Confidence
from edgecap.runtime.generation import GenerationConfig
from edgecap.runtime.manifest import (
    DOCUMENT_ROLES,
    OPTIONAL_DOCUMENT_ROLES,
    PRECISIONS,
    SCHEMA_VERSION,
    Dims,
    FileEntry,
    Manifest,
    TensorSpec,
    bundle_id,
)
from edgecap.runtime.preprocess import PreprocessConfig
from edgecap.runtime.vocabulary import Vocabulary

__all__ = [
    "DEFAULT_BUNDLE",
    "MANIFEST",
    "SCHEMA_VERSION",
    "Bundle",
    "Confidence",
    "Dims",
    "FileEntry",
    "GenerationConfig",
    "Manifest",
    "PreprocessConfig",
    "TensorSpec",
    "bundle_id",
    "embedded_bundles",
    "find_bundle",
]

MANIFEST = "manifest.json"
DEFAULT_BUNDLE = "plus"
MAX_JSON_BYTES = 64 * 2**20
_READ_ON_OPENING = DOCUMENT_ROLES + OPTIONAL_DOCUMENT_ROLES

# A clone has a link beside this package, a wheel the folder; where an sdist is installed in place, neither is there.
_MODELS = find_spec("edgecap.models")
_EMBEDDED = Path(_MODELS.origin if _MODELS and _MODELS.origin else edgecap.__file__).parent
TORN = "does not match its sha256 in manifest.json: torn or edited; export or install it again"

Value = TypeVar("Value")
Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. All its files were verified; :meth:`read` verifies once more the bytes that it returns."""

    path: Path
    manifest: Manifest
    vocabulary: Vocabulary
    preprocess: PreprocessConfig
    generation: GenerationConfig
    confidence: Confidence | None = None  # of a bundle that was calibrated on captioned photos

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Open the bundle in the directory ``path``. Raises :class:`BundleError` naming the file that is wrong."""
        root = Path(path)
        manifest = _read_manifest(root)
        documents: dict[str, tuple[Path, Any]] = {}
        for entry in manifest.files:
            content = _read(root, entry)
            if entry.role in _READ_ON_OPENING:
                documents[entry.role] = (root / entry.path, _json(root / entry.path, content))
        bundle = cls(
            path=root,
            manifest=manifest,
            vocabulary=_parse(*documents["vocab"], Vocabulary.from_json),
            preprocess=_parse(*documents["preprocess"], PreprocessConfig.from_json),
            generation=_parse(*documents["generation"], GenerationConfig.from_json),
            confidence=_parse(*documents["confidence"], Confidence.from_json) if "confidence" in documents else None,
        )
        bundle._check_agreement()
        return bundle

    def _check_agreement(self) -> None:
        dims = self.manifest.dims
        if len(self.vocabulary) != dims.vocab_size:
            raise BundleError(self.path, f"has {len(self.vocabulary)} words, its manifest says {dims.vocab_size}")
        if self.preprocess.size != dims.image_size:
            raise BundleError(self.path, f"prepares {self.preprocess.size} pixels, its graphs take {dims.image_size}")
        try:
            self.generation.options(self.vocabulary)
        except ValueError as error:
            raise BundleError(self.path, f"has a wrong generation.json: {error}") from error

    def read(self, entry: FileEntry) -> bytes:
        """The content of a file, verified. Raises :class:`BundleError` when it is not what the manifest says."""
        return _read(self.path, entry)

    def graph(self, role: str, runtime: str, precision: str) -> FileEntry | None:
        """The graph of that kind, or ``None`` when the bundle does not carry it."""
        wanted = (role, runtime, precision)
        return next((f for f in self.manifest.files if (f.role, f.runtime, f.precision) == wanted), None)

    def precisions(self, runtime: str) -> tuple[str, ...]:
        """The precisions in which both graphs are there for ``runtime``, fastest first.

        One whose captions missed the limits of the export comes after all that keep them.
        """
        there = [p for p in PRECISIONS if self.graph("encoder", runtime, p) and self.graph("decoder_step", runtime, p)]
        return tuple(sorted(there, key=lambda precision: not self.passes_gate(runtime, precision)))

    def passes_gate(self, runtime: str, precision: str) -> bool:
        """Whether the captions of these graphs kept the limits of the export, or were not measured."""
        step = self.graph("decoder_step", runtime, precision)
        return step is not None and step.passes_gate is not False  # None: not measured


def find_bundle(name_or_path: str | Path | None = None) -> Path:
    """The bundle directory that is meant: a bundle, a model directory, or a name without a slash.

    A model directory holds a checkpoint, and its bundle in ``bundle/``. A name is that of such a directory in the
    working directory, and else of an embedded bundle, one that comes with the package; a directory that holds no bundle
    hides none. ``None`` is the embedded default, whatever the working directory holds. Raises :class:`BundleError`,
    which says what bundles are embedded.
    """
    given = DEFAULT_BUNDLE if name_or_path is None else name_or_path
    places = [] if name_or_path is None else [Path(given)]
    if isinstance(given, str) and Path(given).name == given:
        places.append(_EMBEDDED / given)
    for place in places:
        for candidate in (place, place / "bundle"):
            if (candidate / MANIFEST).is_file():
                return candidate
    problem = f"is not a bundle: no {MANIFEST}" if places[0].is_dir() else "no such bundle"
    raise BundleError(given, f"{problem} (embedded bundles: {', '.join(embedded_bundles()) or 'none'})")


def embedded_bundles() -> list[str]:
    """Names of the bundles that come with the package, by alphabet."""
    return sorted(manifest.parent.parent.name for manifest in _EMBEDDED.glob(f"*/bundle/{MANIFEST}"))


def _read_manifest(root: Path) -> Manifest:
    path = root / MANIFEST
    if not path.is_file():
        raise BundleError(root, f"is not a bundle: no {MANIFEST}")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise BundleError(path, f"is larger than {MAX_JSON_BYTES} bytes")
    document = _json(path, _bytes(path))
    # Before anything else: a newer schema may mean anything by the other fields.
    schema = document.get("schema_version") if isinstance(document, dict) else None
    if type(schema) is int and schema > SCHEMA_VERSION:
        reads = f"schema {schema}, this one reads {SCHEMA_VERSION}"
        raise BundleError(root, f"was made for a newer edgecap ({reads}): upgrade edgecap")
    manifest = _parse(path, document, Manifest.from_json)
    if manifest.schema_version != SCHEMA_VERSION:
        raise BundleError(path, f"has the unknown schema {manifest.schema_version}")
    if _parse(path, manifest.min_runtime, _version) > _version(edgecap.__version__):
        needs = f"{manifest.min_runtime}, this is {edgecap.__version__}"
        raise BundleError(root, f"was made for a newer edgecap ({needs}): upgrade edgecap")
    return manifest


def _version(text: str) -> tuple[int, ...]:
    numbers = re.match(r"\d+(\.\d+)*", text)
    if numbers is None:
        raise ValueError(f"min_runtime {text!r} is not a version")
    return tuple(int(number) for number in numbers[0].split("."))


def _json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(path, f"is not JSON: {error}") from error


def _parse(path: Path, document: Value, parse: Callable[[Value], Parsed]) -> Parsed:
    try:
        return parse(document)
    except KeyError as error:
        raise BundleError(path, f"is wrong: {error} is missing") from error
    except (ValueError, TypeError, OverflowError) as error:  # JSON has whole numbers that no float holds
        raise BundleError(path, f"is wrong: {error}") from error


def _read(root: Path, entry: FileEntry) -> bytes:
    """The verified content of a file that is the bundle's own."""
    path = root / entry.path
    # Whichever part of the path is a link, following it ends elsewhere.
    if path.resolve() != root.resolve() / entry.path:
        raise BundleError(path, "is a symbolic link: a bundle holds its own files")
    if not path.is_file():
        raise BundleError(path, "is missing: export or install the bundle again")
    if path.stat().st_size != entry.bytes:
        raise BundleError(path, TORN)
    if entry.role in _READ_ON_OPENING and entry.bytes > MAX_JSON_BYTES:
        raise BundleError(path, f"is larger than {MAX_JSON_BYTES} bytes")
    content = _bytes(path)
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise BundleError(path, TORN)
    return content


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(path, f"cannot be read: {error.strerror}") from error
