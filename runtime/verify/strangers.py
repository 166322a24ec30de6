"""Graphs of strangers tried in another process, so that an engine that they crash takes nothing else with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from edgecap.errors import BundleError, EngineError
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.documents import read_golden
from edgecap.runtime.bundle.entries import GraphSet
from edgecap.runtime.machine.other_process import Ended, run_python
from edgecap.runtime.verify.golden_check import Check, check_graphs, check_photo


def checks_in_child(bundle: Bundle, sets: Sequence[GraphSet], threads: int) -> Iterator[Check]:
    """The checks of ``sets``, made one after the other in a child; a new child goes on after a set that ended one."""
    waiting = list(sets)
    while waiting:
        task = {
            "path": str(bundle.path.absolute()),
            "bundle_id": bundle.manifest.bundle_id,
            "sets": [graphs.name for graphs in waiting],
            "threads": threads,
        }
        try:
            ended = run_python("-m", __name__, json.dumps(task), tasks=len(waiting))
        except EngineError as error:
            yield from (_failed(graphs, f"cannot be tried: {error}") for graphs in waiting)
            return
        found = _found(ended)[: len(waiting)]
        yield from found
        waiting = waiting[len(found) :]
        if waiting:
            yield _failed(waiting.pop(0), f"ended the process that tried them: {ended.how}")


def _failed(graphs: GraphSet, detail: str) -> Check:
    return Check("graphs", "failed", detail, graphs.engine, graphs.precision)


def _found(ended: Ended) -> list[Check]:
    """Those that the child wrote, in lines of their own; an engine may have written others."""
    found = []
    for line in ended.out.splitlines():
        try:
            found.append(Check(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found


def main(task: dict[str, Any]) -> None:
    """The child: a line of JSON for each check as soon as it is made."""
    bundle = Bundle.open(task["path"])
    golden = read_golden(bundle)
    if golden is None or bundle.manifest.bundle_id != task["bundle_id"]:
        raise BundleError(bundle.path, "was replaced meanwhile")
    _, image = check_photo(bundle, golden)
    if image is None:
        return
    for graphs in bundle.manifest.graph_sets:
        if graphs.name not in task["sets"]:
            continue
        check = check_graphs(bundle, golden, graphs, image, task["threads"])
        print(json.dumps(asdict(check), allow_nan=False), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
