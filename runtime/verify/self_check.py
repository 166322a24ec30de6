"""Whether a model does on this machine what its graphs did where they were exported, found out once.

Its golden photo is captioned, or labelled, once for each machine, bundle, set of graphs and version of the engine; what
came of it is kept in the user's cache.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecap.errors import BundleError, ImageError
from edgecap.runtime.bundle.fields import Fields
from edgecap.runtime.bundle.json_document import parse_json
from edgecap.runtime.bundle.regular_file import read_regular
from edgecap.runtime.machine.atomic_write import write_atomically
from edgecap.runtime.machine.user_files import in_user_cache

if TYPE_CHECKING:
    from edgecap.runtime.model import Model

VARIABLE = "EDGECAP_GOLDEN"  # names another file; /dev/null: nothing is found out
_MAX_BYTES = 2**20  # a file beyond is not ours, and stays; one of a hundred bundles has some 30 kB


def cache_file() -> Path:
    """``golden.json`` in ``edgecap/`` of the user's cache (XDG), or what ``EDGECAP_GOLDEN`` names.

    Raises ``RuntimeError`` for a user without a home.
    """
    return in_user_cache("golden.json", VARIABLE)


def self_check(model: Model[Any]) -> str | None:
    """What is wrong with the model's graphs on this machine, in words; ``None`` where nothing is known to be.

    Where the result cannot be kept nothing is found out, as it would cost every process the time of three answers:
    ``golden_check.verify`` tells. Raises :class:`~edgecap.errors.EngineError` after ``close``.
    """
    key = _key(model)
    try:
        file = cache_file()
        known = _read(file)
        if key in known:
            return Fields(known, "golden").optional(key, str)
        file.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(file) as partial:
            partial.touch()  # before anything is computed: whether it can be kept
            problem = _problem(model)
            partial.write_text(json.dumps({**known, key: problem}, indent=1) + "\n", encoding="utf-8")
    except (OSError, RuntimeError, ValueError):  # no home, a full disk, a read-only one, an edited file
        return None
    return problem


def known_problem(model: Model[Any]) -> str | None:
    """What :func:`self_check` found out before; ``None`` where that is nothing wrong, or it was never called."""
    try:
        known = _read(cache_file())
        return Fields(known, "golden").optional(_key(model), str) if known else None
    except (OSError, RuntimeError, ValueError):
        return None


def _key(model: Model[Any]) -> str:
    """What a result holds for."""
    from edgecap.runtime.machine.tuning import machine_id

    graphs = model.graph_set.name
    return " ".join((machine_id(), model.bundle.manifest.bundle_id, graphs, model.loaded.name))


def _read(file: Path) -> dict[str, Any]:
    """What is known; nothing where the file is absent or not whole. Raises ``OSError``, also for what is no file."""
    try:
        document = parse_json(read_regular(file, _MAX_BYTES))
    except (FileNotFoundError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _problem(model: Model[Any]) -> str | None:
    """The check that failed; ``None`` also where the bundle has no golden record of these graphs."""
    from edgecap.runtime.bundle.documents import read_golden
    from edgecap.runtime.photo.preprocess import to_tensor
    from edgecap.runtime.verify.golden_check import check_engine

    bundle, graphs = model.bundle, model.graph_set
    try:
        golden = read_golden(bundle)
        if golden is None or graphs.name not in golden.records:
            return None
        image = to_tensor(bundle.read(golden.photo), bundle.preprocess)  # (1, 3, S, S)
    except (BundleError, ImageError) as error:
        return str(error)
    check = check_engine(bundle, golden, graphs, image, model.loaded)
    return None if check.status == "ok" else check.text
