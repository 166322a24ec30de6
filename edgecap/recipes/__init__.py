"""Named configurations of ``edgecap train``: one TOML file each."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """The recipes of this package."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def recipe_path(name: str) -> Path:
    """The file of a recipe, one of :func:`recipe_names`."""
    return _FOLDER / f"{name}.toml"
