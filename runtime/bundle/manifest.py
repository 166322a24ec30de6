"""``manifest.json``: what a bundle says about itself and about each of its files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgecap.runtime.bundle.entries import DOCUMENT_ROLES, FileEntry, GraphEntry, GraphSet
from edgecap.runtime.bundle.fields import Fields
from edgecap.runtime.bundle.tasks import ARCHITECTURES, TASKS, Task
from edgecap.runtime.bundle.typed import read

SCHEMA_VERSION = 2
DIGEST_KEY = "manifest_sha256"


@dataclass(frozen=True)
class Manifest:
    """The whole of ``manifest.json``. Raises ``ValueError`` for one that contradicts itself, or its task."""

    bundle_id: str
    name: str
    task: str
    architecture: str
    preset: str
    created_by: str
    min_runtime: str
    dims: Mapping[str, int]  # sizes that graphs and documents share, by name
    files: tuple[FileEntry, ...]
    graph_sets: tuple[GraphSet, ...]  # what "auto" tries first stands first
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for kind, known, value in (("task", TASKS, self.task), ("architecture", ARCHITECTURES, self.architecture)):
            if value not in known:
                raise ValueError(f"unknown {kind} {value!r:.60} (known: {', '.join(known)}): upgrade edgecap")
        for path, count in Counter(entry.path for entry in self.files).items():
            if count > 1:
                raise ValueError(f"{path} is listed twice")
        self._check_documents(TASKS[self.task])
        self._check_dims(TASKS[self.task])
        names = [graphs.name for graphs in self.graph_sets]
        if len(set(names)) < len(names):
            raise ValueError(f"two graph sets have one name: {', '.join(names)}")
        for graphs in self.graph_sets:
            self._check_set(TASKS[self.task], graphs)
        if self.bundle_id != bundle_id(self.files):
            raise ValueError("bundle_id does not match the files listed")

    def _check_documents(self, task: Task) -> None:
        roles = Counter(entry.role for entry in self.files)
        for role in DOCUMENT_ROLES:
            if role in task.documents and roles[role] != 1:
                raise ValueError(f"one file of the role {role!r} is needed")
            if role in task.optional_documents and roles[role] > 1:
                raise ValueError(f"at most one file of the role {role!r} is allowed")

    def _check_dims(self, task: Task) -> None:
        for name, size in self.dims.items():
            if size < 1:
                raise ValueError(f"dims.{name} must be positive, not {size}")
        for name in task.dims:
            if name not in self.dims:
                raise ValueError(f"dims lack {name!r}")

    def _check_set(self, task: Task, graphs: GraphSet) -> None:
        for role in task.graphs:
            if role not in graphs.graphs:
                raise ValueError(f"the graph set {graphs.name} has no {role}: export the checkpoint again")
        for role, path in graphs.graphs.items():
            if role not in task.graphs:
                raise ValueError(
                    f"the graph set {graphs.name} has a {role!r:.60}, which is no graph for the task {self.task}"
                )
            if (graph := self._graph(path)) is None:
                raise ValueError(f"the graph set {graphs.name} names {path!r:.60}, which is no graph of the bundle")
            if graph.engine != graphs.engine:
                raise ValueError(f"the graph set {graphs.name} names {path}, which is a graph for {graph.engine}")
        try:
            task.check(self.entries(graphs), self.dims)
        except ValueError as error:
            raise ValueError(f"the graph set {graphs.name} does not fit the task {self.task}: {error}") from error

    def _graph(self, path: str) -> GraphEntry | None:
        return next((entry.graph for entry in self.files if entry.path == path), None)

    def entries(self, graphs: GraphSet) -> dict[str, GraphEntry]:
        """What is known of each graph of a set, by role."""
        found = {role: self._graph(path) for role, path in graphs.graphs.items()}
        return {role: graph for role, graph in found.items() if graph is not None}

    @property
    def label(self) -> str:
        """What people and logs call the bundle: its name and the start of its id, ``plus@7b3b8632c44e``."""
        return f"{self.name}@{self.bundle_id[:12]}"

    def to_json(self) -> dict[str, Any]:
        """The content of ``manifest.json``, with the digest that guards the manifest itself."""
        document: dict[str, Any] = asdict(self)
        document["files"] = [_without_nothing(file) for file in document["files"]]
        return {**document, DIGEST_KEY: digest(document)}

    def to_bytes(self) -> bytes:
        """``manifest.json`` as it is written."""
        return written(self.to_json())

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Manifest:
        """Inverse of :meth:`to_json`; other keys are ignored, but are under the digest. Raises ``ValueError``."""
        if Fields(document, "manifest").get(DIGEST_KEY, str) != digest(document):
            raise ValueError(f"its content does not match {DIGEST_KEY}: torn or edited; export or install it again")
        return read(cls, document, "manifest")


def _without_nothing(file: dict[str, Any]) -> dict[str, Any]:
    """A file without what it has not."""
    graph = file.pop("graph")
    if graph is None:
        return file
    return {**file, "graph": {name: value for name, value in graph.items() if value not in (None, ())}}


def bundle_id(files: Iterable[FileEntry]) -> str:
    """The identity of a bundle: SHA-256 over the sorted lines ``path sha256`` of its files."""
    lines = sorted(f"{entry.path} {entry.sha256}\n" for entry in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def written(document: Mapping[str, Any]) -> bytes:
    """The one way to write the content of a manifest: in any other, a byte of it has been changed."""
    return (json.dumps(document, indent=1) + "\n").encode()


def digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's content without the digest itself; white space and order of keys do not count."""
    content = {key: value for key, value in document.items() if key != DIGEST_KEY}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
