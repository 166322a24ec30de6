"""Whether one graph set does here what it did where it was exported, judged by the bundle's golden photo."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import PIL
from numpy.typing import NDArray

from edgecap.errors import BundleError, EngineError, ImageError, MissingExtraError, brief
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.documents import SEARCHES, Golden, Record
from edgecap.runtime.bundle.entries import GraphSet
from edgecap.runtime.bundle.fields import Fields
from edgecap.runtime.bundle.tasks import LABEL, TASKS
from edgecap.runtime.engines import libraries
from edgecap.runtime.engines.engine import FloatArray, Loaded
from edgecap.runtime.engines.starting import start, start_embedder
from edgecap.runtime.photo.preprocess import to_tensor
from edgecap.runtime.verify.record import record_of, tensor_digest

_ROUNDING = 1e-5  # records keep five decimals: by so much may two of them differ for nothing
_LABELS = 5  # of a photo that are compared
_TIE = 0.01  # labels whose similarities differ by less may change places: another CPU rounds otherwise


@dataclass(frozen=True)
class Check:
    """One check and its result.

    Of a graph set: ``library`` is ``None`` when none started. ``tensor`` is the one closest to its limit, or the first
    beyond it: one of its values is ``difference`` away from the recorded one (``None``: it is not finite), and
    ``allowed`` is how far it may be.
    """

    check: Literal["files", "photo", "graphs"]
    status: Literal["ok", "skipped", "failed"]
    detail: str
    engine: str | None = None
    precision: str | None = None
    library: str | None = None  # and its version
    tensor: str | None = None
    difference: float | None = None
    allowed: float | None = None

    @property
    def text(self) -> str:
        """The check in words: ``onnx int8, onnxruntime 1.31.1: captions equal, ...``."""
        graphs = f"{self.engine} {self.precision}" if self.engine else self.check
        library = f", {self.library}" if self.library else ""
        return f"{graphs}{library}: {self.detail}"


def check_photo(bundle: Bundle, golden: Golden) -> tuple[Check, FloatArray | None]:
    """The check of the preprocessing, and the photo's tensor (1, 3, S, S) as this machine makes it."""
    name = golden.photo.path
    try:
        image = to_tensor(bundle.read(golden.photo), bundle.preprocess)
    except ImageError as error:
        return Check("photo", "failed", f"{name} {error.problem}"), None
    found, recorded = tensor_digest(image), golden.input_sha256
    if found == recorded:
        return Check("photo", "ok", f"{name} gives the recorded tensor"), image
    digests = f"sha256 {found[:12]}, {recorded[:12]} was recorded"
    return Check("photo", "failed", f"{name} gives another tensor in Pillow {PIL.__version__}: {digests}"), image


def check_graphs(bundle: Bundle, golden: Golden, graphs: GraphSet, image: FloatArray, threads: int) -> Check:
    """The check of one graph set on the photo's tensor (1, 3, S, S)."""
    failed = Check("graphs", "failed", "", graphs.engine, graphs.precision)
    if graphs.name not in golden.records:
        return replace(failed, detail="has no golden record")
    try:
        libraries.require(graphs.engine)
        begin: Callable[..., Loaded] = start_embedder if bundle.manifest.task == LABEL else start
        loaded = begin(bundle.read_graphs(graphs), threads, bundle.manifest.name)
    except MissingExtraError as error:
        return replace(failed, status="skipped", detail=str(error))
    except (BundleError, EngineError) as error:
        return replace(failed, detail=str(error))
    return check_engine(bundle, golden, graphs, image, loaded)


def check_engine(bundle: Bundle, golden: Golden, graphs: GraphSet, image: FloatArray, loaded: Loaded) -> Check:
    """The check of a graph set that is loaded, on the golden photo's tensor (1, 3, S, S)."""
    failed = Check("graphs", "failed", "", graphs.engine, graphs.precision, loaded.name)
    try:
        found = Record.from_json(Fields(record_of(bundle, loaded, image), "record"), bundle.manifest.task)
    except EngineError as error:
        return replace(failed, detail=str(error))
    except (ValueError, LookupError) as error:  # graphs whose sizes do not fit each other, or the vocabulary
        return replace(failed, detail=f"cannot make {TASKS[bundle.manifest.task].answers}: {brief(error)}")
    return compare(found, golden.records[graphs.name], golden.tolerances[graphs.name], failed)


def compare(found: Record, recorded: Record, tolerance: float, failed: Check) -> Check:
    """``failed`` with the first difference beyond the tolerance in its detail, or turned into a check that is ok."""
    closest = replace(failed, status="ok")
    share = -math.inf  # of its limit that the closest tensor takes up
    if list(found.tensors) != list(recorded.tensors):
        other = f"gives {', '.join(found.tensors)}, {', '.join(recorded.tensors)} were recorded"
        return replace(failed, detail=other)
    for name in found.tensors:
        check = _compare_tensor(name, found.tensors[name], recorded.tensors[name], tolerance, failed)
        if check.difference is None or check.allowed is None or check.difference > check.allowed:
            return check
        if check.difference / check.allowed > share:
            closest, share = replace(check, status="ok"), check.difference / check.allowed
    if another := _other_captions(found, recorded) or _other_labels(found, recorded):
        return replace(failed, detail=another)
    answers = "labels" if recorded.labels else "captions"
    limits = f"{closest.tensor}; {closest.allowed:.2g} allowed"
    return replace(closest, detail=f"{answers} equal, largest difference {closest.difference:.2g} ({limits})")


def _other_captions(found: Record, recorded: Record) -> str | None:
    """The first caption that is another one, in words."""
    for search in SEARCHES:
        here, there = found.captions.get(search), recorded.captions.get(search)
        if here != there:
            return f"the {search} caption is {here!r}, {there!r} was recorded"
    return None


def _other_labels(found: Record, recorded: Record) -> str | None:
    """The first label that is another one and was not recorded to be about as similar, in words."""
    ranks = zip(list(found.labels)[:_LABELS], recorded.labels.items(), strict=False)
    for rank, (here, (there, similarity)) in enumerate(ranks, 1):
        if not recorded.labels.get(here, -math.inf) >= similarity - _TIE:
            return f"label {rank} is {here!r}, {there!r} was recorded"
    return None


def _compare_tensor(
    name: str, found: NDArray[np.float64], recorded: NDArray[np.float64], tolerance: float, failed: Check
) -> Check:
    """``failed`` with the facts of a tensor: values (n,) of here and of the record."""
    if len(found) != len(recorded):
        return replace(failed, detail=f"{name} has {len(found)} values, {len(recorded)} were recorded", tensor=name)
    differences = np.abs(found - recorded)  # (n,)
    allowed = tolerance * float(np.abs(recorded).max(initial=0.0)) + _ROUNDING
    beyond = ~(differences <= allowed)  # (n,): also where it is NaN
    index = int(np.argmax(beyond if beyond.any() else differences))
    difference = float(differences[index])
    return replace(
        failed,
        detail=f"{name}[{index}] is {found[index]:.5g}, {recorded[index]:.5g} was recorded ({allowed:.2g} allowed)",
        tensor=name,
        difference=difference if math.isfinite(difference) else None,
        allowed=allowed,
    )
