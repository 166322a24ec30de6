"""What the benchmarks write: Markdown files with tables, and lines that say how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click


def write_report(path: Path, title: str, protocol: str, tables: Sequence[str]) -> None:
    """Write a Markdown file: its title, how its figures were made, and lines of tables; print its path."""
    path.write_text("\n".join([f"# {title}", "", protocol, "", *tables]) + "\n", encoding="utf-8")
    click.echo(path)


def say(line: str) -> None:
    """To stderr."""
    click.echo(line, err=True)
