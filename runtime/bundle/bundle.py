"""A bundle: the directory that holds a captioner or a labeller, opened and verified.

Nothing of a bundle is used before its size and SHA-256 were found to be those of ``manifest.json``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import edgecap
from edgecap.errors import BundleError, TaskError
from edgecap.runtime.bundle.captioning import Captioning
from edgecap.runtime.bundle.confidence import Confidence
from edgecap.runtime.bundle.entries import DOCUMENT_ROLES, FileEntry, GraphEntry, GraphSet, set_name
from edgecap.runtime.bundle.fields import Fields
from edgecap.runtime.bundle.files import MANIFEST, TORN, check_place, read_file, read_manifest
from edgecap.runtime.bundle.generation import GenerationConfig
from edgecap.runtime.bundle.json_document import read_document
from edgecap.runtime.bundle.manifest import SCHEMA_VERSION, Manifest, written
from edgecap.runtime.bundle.tasks import CAPTION, LABEL, TASKS
from edgecap.runtime.bundle.versions import version_numbers
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.engines.foreign import check_graph
from edgecap.runtime.labels.table import LabelTable
from edgecap.runtime.photo.preprocess import PreprocessConfig

DEFAULT_BUNDLE = "plus"

_ATTEMPTS = 10  # an export takes longer than to open what it made
# A clone has a link beside this package, a wheel the folder; where an sdist is installed in place, neither is there.
_MODELS = find_spec("edgecap.models")
_EMBEDDED = Path(_MODELS.origin if _MODELS and _MODELS.origin else edgecap.__file__).parent

Made = TypeVar("Made")


@dataclass(frozen=True)
class Graph:
    """A graph's file, read, and what the manifest says of it."""

    content: bytes
    entry: GraphEntry


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. All its files were verified; :meth:`read` verifies once more the bytes that it returns."""

    path: Path
    manifest: Manifest
    preprocess: PreprocessConfig
    captioning: Captioning | None = None  # of a captioner
    label_table: LabelTable | None = None  # of a labeller

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Open the bundle in the directory ``path``. Raises :class:`BundleError` naming the file that is wrong."""
        root = Path(path)
        return unless_replaced(root, lambda: cls._open(root))

    @classmethod
    def _open(cls, root: Path) -> Bundle:
        manifest = _read_manifest(root)
        for entry in manifest.files:  # of all, before any is opened
            check_place(root, entry.path)
        contents = {}
        for entry in sorted(manifest.files, key=lambda entry: entry.bytes):  # what is quickly found wrong comes first
            content = read_file(root, entry)
            if entry.role in DOCUMENT_ROLES:
                contents[entry.role] = (root / entry.path, content)
        bundle = cls(
            path=root,
            manifest=manifest,
            preprocess=read_document(*contents["preprocess"], PreprocessConfig.from_json),
            captioning=Captioning.read(contents) if manifest.task == CAPTION else None,
            label_table=read_document(*contents["labels"], LabelTable.from_json) if manifest.task == LABEL else None,
        )
        bundle._check_agreement()
        return bundle

    def _check_agreement(self) -> None:
        dims = self.manifest.dims
        if self.preprocess.size != dims["image_size"]:
            takes = f"its graphs take {dims['image_size']}"
            raise BundleError(self.path, f"prepares {self.preprocess.size} pixels, {takes}")
        if self.captioning is not None:
            self.captioning.check(self.path, dims)
        if self.label_table is not None and (width := self.label_table.width) != dims["embedding_dim"]:
            makes = f"its graphs make {dims['embedding_dim']}"
            raise BundleError(self.path, f"has labels of {width} values, {makes}")

    def require(self, task: str) -> None:
        """Raise :class:`TaskError` unless the bundle is for ``task``."""
        if self.manifest.task != task:
            own = TASKS[self.manifest.task]
            raise TaskError(self.path, f"is a {own.noun}, where a {TASKS[task].noun} is needed: it is for  {own.use}")

    def _captioning(self) -> Captioning:
        self.require(CAPTION)
        assert self.captioning is not None  # as its manifest says so
        return self.captioning

    @property
    def vocabulary(self) -> Vocabulary:
        """A captioner's words. Raises :class:`TaskError` for another bundle."""
        return self._captioning().vocabulary

    @property
    def generation(self) -> GenerationConfig:
        """How a captioner generates by default. Raises :class:`TaskError` for another bundle."""
        return self._captioning().generation

    @property
    def confidence(self) -> Confidence | None:
        """How likely a captioner is right; ``None`` of one that was not calibrated, and of another bundle."""
        return self.captioning.confidence if self.captioning else None

    @property
    def labels(self) -> LabelTable:
        """A labeller's table. Raises :class:`TaskError` for another bundle."""
        self.require(LABEL)
        assert self.label_table is not None  # as its manifest says so
        return self.label_table

    @property
    def embedded(self) -> bool:
        """Whether it comes with the package."""
        return self.path.resolve().is_relative_to(_EMBEDDED.resolve())

    def read(self, entry: FileEntry) -> bytes:
        """The content of a file, verified. Raises :class:`BundleError` when it is not what the manifest says."""
        return read_file(self.path, entry)

    def sets(self, engine: str) -> tuple[GraphSet, ...]:
        """The graph sets for an engine (onnx or tflite), fastest first.

        Those whose captions missed the limits of the export come after all that keep them.
        """
        there = [graphs for graphs in self.manifest.graph_sets if graphs.engine == engine]
        return tuple(sorted(there, key=lambda graphs: graphs.passes_gate is False))  # None: not measured

    def precisions(self, engine: str) -> tuple[str, ...]:
        """What the sets for an engine are asked for by, in their order: int8, fp16, fp32, or a word for a mixture."""
        return tuple(graphs.precision for graphs in self.sets(engine))

    def graph_set(self, engine: str, precision: str) -> GraphSet:
        """The graph set of an engine and a precision. Raises :class:`BundleError` where there is none."""
        for graphs in self.sets(engine):
            if graphs.precision == precision:
                return graphs
        raise BundleError(self.path, f"has no graph set {set_name(engine, precision)}")

    def files(self, graphs: GraphSet) -> dict[str, FileEntry]:
        """The files of a set, by the role of the graph."""
        listed = {entry.path: entry for entry in self.manifest.files}
        return {role: listed[path] for role, path in graphs.graphs.items()}

    def read_graphs(self, graphs: GraphSet) -> dict[str, Graph]:
        """The graphs of a set, verified, by role.

        Raises :class:`BundleError` also for a graph that needs more than itself and its engine.
        """
        return {role: self._read_graph(entry) for role, entry in self.files(graphs).items()}

    def _read_graph(self, entry: FileEntry) -> Graph:
        assert entry.graph is not None  # or its manifest would not have been read
        content = self.read(entry)
        check_graph(self.path / entry.path, entry.graph.engine, content)
        return Graph(content, entry.graph)


def find_bundle(name_or_path: str | Path | None = None) -> Path:
    """The bundle directory that is meant: a bundle, a model directory, or a name without a slash.

    A model directory holds a checkpoint, and its bundle in ``bundle/``. A name is that of such a directory in the
    working directory, and else of an embedded bundle, one that comes with the package; a directory that holds no bundle
    hides none. ``None`` is the embedded default, whatever the working directory holds. Raises :class:`BundleError`,
    which says what bundles are embedded.
    """
    given = DEFAULT_BUNDLE if name_or_path is None else name_or_path
    if not isinstance(given, str | os.PathLike):
        raise BundleError("bundle", f"must be a name or a directory, not {given!r:.60}")
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


def unless_replaced(root: Path, make: Callable[[], Made]) -> Made:
    """``make()``, and again when it failed while another bundle took the place of the one in ``root``."""
    for _ in range(_ATTEMPTS - 1):
        before = _directory(root)
        try:
            return make()
        except BundleError:
            if _directory(root) == before:
                raise
    return make()


def _directory(root: Path) -> tuple[int, int, int] | None:
    """What tells the directory from another one of the same name."""
    try:
        status = root.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _read_manifest(root: Path) -> Manifest:
    content, path = read_manifest(root), root / MANIFEST
    return read_document(path, content, partial(_manifest, path, content))


def _manifest(path: Path, content: bytes, document: Any) -> Manifest:
    # Before anything else: another schema, and a version to come, may mean anything by the other fields.
    entry = Fields(document, "manifest")
    schema, needed = entry.get("schema_version", int), entry.get("min_runtime", str)
    if schema > SCHEMA_VERSION:
        reads = f"schema {schema}, this one reads {SCHEMA_VERSION}"
        raise BundleError(path, f"was made for a newer edgecap ({reads}): upgrade edgecap")
    if schema < SCHEMA_VERSION:
        reads = f"schema {schema}, this one reads {SCHEMA_VERSION}"
        raise BundleError(path, f"was made by an older edgecap ({reads}): export its checkpoint again")
    if version_numbers(needed) > version_numbers(edgecap.__version__):
        raise BundleError(
            path, f"was made for a newer edgecap ({needed}, this is {edgecap.__version__}): upgrade edgecap"
        )
    manifest = Manifest.from_json(document)
    if written(document) != content:  # its digest is of what it says, not of how
        raise ValueError(f"its text is not as it was written: {TORN}")
    return manifest
