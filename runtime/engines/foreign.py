"""What a graph asks for beyond its own file and its engine: operators of others, and data in other files.

An engine would look for such data in whatever directory it runs, or wherever the graph says.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgecap.errors import BundleError
from edgecap.runtime.engines.onnx_scan import foreign_in_onnx
from edgecap.runtime.engines.tflite_scan import foreign_in_tflite

_SCANS: dict[str, Callable[[bytes], str | None]] = {"onnx": foreign_in_onnx, "tflite": foreign_in_tflite}


def check_graph(path: Path, runtime: str, content: bytes) -> None:
    """Raise :class:`BundleError` for a graph that asks for anything foreign; ``content`` is that of its file."""
    foreign = _SCANS[runtime](content)
    if foreign is not None:
        raise BundleError(path, f"holds {foreign}: a graph must be whole in its file, of its engine's operators")
