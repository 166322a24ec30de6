"""Where edgecap keeps files of a user, as the XDG base directories say."""

from __future__ import annotations

import os
from pathlib import Path


def in_user_cache(name: str, variable: str) -> Path:
    """``name`` in ``edgecap/`` of the user's cache, or what the environment's ``variable`` names.

    Raises ``RuntimeError`` for a user without a home.
    """
    return _named(variable) or _folder("XDG_CACHE_HOME", ".cache") / name


def in_user_configuration(name: str, variable: str) -> Path:
    """The same in the user's configuration."""
    return _named(variable) or _folder("XDG_CONFIG_HOME", ".config") / name


def _named(variable: str) -> Path | None:
    named = os.environ.get(variable)
    return Path(named) if named else None


def _folder(variable: str, at_home: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / at_home) / "edgecap"
