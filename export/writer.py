"""Collects the files of a bundle beside their final place, and puts them there whole."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import edgecap
from edgecap.errors import BundleError, EdgecapError
from edgecap.export.atomic import replace_directory
from edgecap.export.graphs.ingredients import graph_entry
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.entries import GRAPH, FileEntry, GraphSet
from edgecap.runtime.bundle.files import MANIFEST
from edgecap.runtime.bundle.manifest import Manifest, bundle_id
from edgecap.runtime.bundle.tasks import least_runtime

_SPARE = 2**16  # bytes: whatever fails with less left on the disk fails for that


class BundleWriter:
    """A context: on success the bundle stands at ``target``, on any error what was there before is untouched.

    ``scratch`` is a folder for files on the way to the bundle; it goes with the context.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self._place = target.resolve()  # a link to a directory stays a link
        self._entries: list[FileEntry] = []
        self._sets: list[GraphSet] = []

    def __enter__(self) -> Self:
        if self.target.exists() and not self.target.is_dir():
            raise BundleError(self.target, "is a file: name a directory for the bundle")
        if self.target.is_dir() and any(self.target.iterdir()) and not (self.target / MANIFEST).is_file():
            raise BundleError(self.target, "holds other files and is no bundle: name another directory")
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            # On the target's own file system, so that one rename can put it in place.
            prefix = f"{self._prefix}{os.getpid()}."
            self.scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=self._place.parent))
        except OSError as error:
            raise BundleError(self.target, f"cannot be written: {error.strerror}") from error
        self.folder = self.scratch / "bundle"  # made with its first file, when an error can be tidied up after
        return self

    @property
    def _prefix(self) -> str:
        return f".{self._place.name}.export-"

    def _remove_abandoned(self) -> None:
        """What exports of this target left that were killed; one that still runs keeps its files."""
        for folder in self._place.parent.glob(f"{glob.escape(self._prefix)}*"):
            process = folder.name.removeprefix(self._prefix).partition(".")[0]
            if process.isdigit() and not _runs(int(process)):
                shutil.rmtree(folder, ignore_errors=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not every library says so: onnx writes half a file, and then wonders at what it reads.
        full = isinstance(error, Exception) and shutil.disk_usage(self._place.parent).free < _SPARE
        shutil.rmtree(self.scratch, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, EdgecapError):
            raise BundleError(self.target, f"cannot be written: {error.strerror or error}") from error
        if full and not isinstance(error, EdgecapError):
            raise BundleError(self.target, f"cannot be written: {os.strerror(errno.ENOSPC)}") from error

    def path(self, name: str) -> Path:
        """Where to write the file ``name`` of the bundle."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add_graph(self, made: Path, engine: str, precision: str) -> str:
        """Move a graph into the bundle and list it, if it is not there yet: sets may share one. Returns its name."""
        name = made.name
        if all(entry.path != name for entry in self._entries):
            made.rename(self.path(name))
            graph = graph_entry(self.path(name), engine, precision)
            self._entries.append(FileEntry(name, GRAPH, **self._identity(name), graph=graph))
        return name

    def add_set(self, graphs: GraphSet) -> None:
        """List a set, of graphs that were added."""
        self._sets.append(graphs)

    def add_bytes(self, name: str, role: str, content: bytes) -> None:
        """Write and list a file."""
        self.path(name).write_bytes(content)
        self._entries.append(FileEntry(name, role, **self._identity(name)))

    def add_json(self, name: str, role: str, document: Mapping[str, Any]) -> None:
        """Write and list a JSON document."""
        self.add_bytes(name, role, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())

    def _identity(self, name: str) -> dict[str, Any]:
        content = (self.folder / name).read_bytes()
        return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}

    def finish(self, name: str, task: str, architecture: str, preset: str, dims: Mapping[str, int]) -> Bundle:
        """Write the manifest, open the bundle as the runtime will, and put it in place. Raises ``BundleError``."""
        manifest = Manifest(
            bundle_id=bundle_id(self._entries),
            name=name,
            task=task,
            architecture=architecture,
            preset=preset,
            created_by=f"edgecap {edgecap.__version__}",
            min_runtime=least_runtime(task, architecture),
            dims=dims,
            files=tuple(self._entries),
            graph_sets=tuple(self._sets),
        )
        (self.folder / MANIFEST).write_bytes(manifest.to_bytes())
        bundle = Bundle.open(self.folder)
        replace_directory(self.folder, self._place)
        return replace(bundle, path=self._place)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    return True
