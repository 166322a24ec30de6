"""The architectures by name, and their presets. Torch is imported with an architecture, not with the list."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgecap.architectures.dims import CaptionerDims
from edgecap.errors import ConfigError

if TYPE_CHECKING:
    from edgecap.architectures.architecture import Architecture


@dataclass(frozen=True)
class Row:
    """Where an architecture is: modules with ``PRESETS``, which needs no torch, and with ``ARCHITECTURE``."""

    presets: str
    architecture: str


ROWS = {"lstm": Row("edgecap.architectures.lstm.dims", "edgecap.architectures.lstm.architecture")}


def architecture(name: str) -> Architecture:
    """The architecture called ``name``. Raises ``ConfigError``."""
    if name not in ROWS:
        raise ConfigError(f"unknown architecture {name!r:.60} (known: {', '.join(ROWS)}): upgrade edgecap")
    found: Architecture = import_module(ROWS[name].architecture).ARCHITECTURE
    return found


def presets() -> dict[str, str]:
    """The architecture of every preset."""
    return {preset: name for name in ROWS for preset in _presets(name)}


def preset_dims(preset: str, vocab_size: int, **changes: Any) -> CaptionerDims:
    """Dimensions of a named preset for a vocabulary. Raises ``ConfigError`` for an unknown name."""
    known = presets()
    if preset not in known:
        raise ConfigError(f"unknown preset {preset!r}: choose one of {', '.join(known)}")
    dims: Any = _presets(known[preset])[preset]
    return dataclasses.replace(dims, vocab_size=vocab_size, **changes)  # type: ignore[no-any-return]


def _presets(name: str) -> Mapping[str, CaptionerDims]:
    found: Mapping[str, CaptionerDims] = import_module(ROWS[name].presets).PRESETS
    return found
