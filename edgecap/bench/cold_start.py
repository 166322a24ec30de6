"""The first caption of a process that was just started, and the memory that it takes: measured in such a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import edgecap
from edgecap.errors import EngineError

_PATIENCE = 600.0  # s


@dataclass(frozen=True)
class ColdStart:
    """Milliseconds from nothing to the first caption, with the files in the system's cache, and the peak memory."""

    python_ms: float  # from the start of the process to its first line
    import_ms: float
    load_ms: float  # bundle checked, graphs in the engine
    first_caption_ms: float
    total_ms: float
    peak_rss_bytes: int | None  # after as many captions as were asked for; not known on Windows


def cold_start(
    photo: Path, *, bundle: Path, engine: str, precision: str, threads: int, beam: int | None, captions: int = 10
) -> ColdStart:
    """Start a process that makes some captions of a photo. Raises ``EngineError`` when it fails."""
    options = {"bundle": str(bundle), "engine": engine, "precision": precision, "threads": threads}
    task = {"photo": str(photo), "options": options, "beam": beam, "captions": captions}
    # It finds the package where this process did, whatever the working directory.
    packages = os.pathsep.join(filter(None, [str(Path(edgecap.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", __name__, json.dumps(task)]
    start = time.time()
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_PATIENCE, env={**os.environ, "PYTHONPATH": packages}
    )
    if done.returncode:
        raise EngineError(f"the first caption of a new process failed: {done.stderr.strip()[-300:]}")
    seen = json.loads(done.stdout)
    python_ms = (seen.pop("began") - start) * 1e3
    total_ms = python_ms + seen["import_ms"] + seen["load_ms"] + seen["first_caption_ms"]
    return ColdStart(python_ms=python_ms, total_ms=total_ms, **seen)


def _first_captions(task: dict[str, object]) -> None:
    """What the new process does."""
    began, start = time.time(), time.perf_counter()
    from edgecap.runtime import load

    imported = time.perf_counter()
    with load(**task["options"]) as captioner:  # type: ignore[arg-type]
        loaded = time.perf_counter()
        captioner.caption(task["photo"], beam=task["beam"])  # type: ignore[arg-type]
        captioned = time.perf_counter()
        for _ in range(task["captions"] - 1):  # type: ignore[operator]
            captioner.caption(task["photo"], beam=task["beam"])  # type: ignore[arg-type]
    milliseconds = {
        "import_ms": imported - start,
        "load_ms": loaded - imported,
        "first_caption_ms": captioned - loaded,
    }
    times = {name: seconds * 1e3 for name, seconds in milliseconds.items()}
    print(json.dumps({"began": began, **times, "peak_rss_bytes": _peak_rss()}))


def _peak_rss() -> int | None:
    """Of this process alone: what getrusage calls its peak begins with that of the process that started it."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return None
    else:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    _first_captions(json.loads(sys.argv[1]))
