"""Whether a library can be imported."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from edgecap.errors import EngineError
from edgecap.runtime.engines.libraries import LITERT_LIBRARIES, ONNX_LIBRARY
from edgecap.runtime.machine.other_process import run_python

# What is imported of a library to see whether it works: one that was half removed may still import by its name.
PARTS = {
    "numpy": "numpy:ndarray",
    "PIL": "PIL.Image:open",
    ONNX_LIBRARY: f"{ONNX_LIBRARY}:InferenceSession",
    **{library: f"{module}:Interpreter" for library, module in LITERT_LIBRARIES.items()},
}

_IMPORT = """
import importlib, sys
module, _, name = sys.argv[1].partition(":")
getattr(importlib.import_module(module), name)
print(getattr(sys.modules[module.partition(".")[0]], "__version__", ""))
"""


@dataclass(frozen=True)
class Trial:
    """A library, by the name that it is imported by; ``problem`` says why it is broken. ``version`` may be empty.

    One that is ``unused`` is there, and was not imported; one that is ``unknown`` could not be tried.
    """

    library: str
    state: Literal["absent", "unused", "unknown", "broken", "works"]
    version: str = ""
    problem: str = ""

    @property
    def package(self) -> str:
        """What pip calls it."""
        return package_of(self.library)


def package_of(library: str) -> str:
    """The package that brings a library."""
    return "pillow" if library == "PIL" else library.replace("_", "-")


def try_import(library: str, used: bool = True) -> Trial:
    """Import one of :data:`PARTS` in another process; one that is not ``used`` is only looked for."""
    try:
        there = find_spec(library) is not None
    except ValueError:  # a module without a spec
        there = True
    if not there:
        return Trial(library, "absent")
    version = _version(package_of(library))
    if not used:
        return Trial(library, "unused", version)
    try:
        ended = run_python("-c", _IMPORT, PARTS[library])
    except EngineError as error:
        return Trial(library, "unknown", version, str(error))
    if ended.status:
        return Trial(library, "broken", version, ended.how)
    return Trial(library, "works", version or ended.out.strip().rpartition("\n")[2])


def _version(package: str) -> str:
    """As pip knows it; empty where it came by other ways."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package) or ""
    except PackageNotFoundError:
        return ""
