"""Where a user's cache is: what edgecap found out once, and would find out again."""

from __future__ import annotations

import os
from pathlib import Path


def in_user_cache(name: str, variable: str) -> Path:
    """``name`` in ``edgecap/`` of the user's cache (XDG), or what the environment's ``variable`` names.

    Raises ``RuntimeError`` for a user without a home.
    """
    if named := os.environ.get(variable):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgecap" / name
