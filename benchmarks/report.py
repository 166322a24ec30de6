"""What the benchmarks write: Markdown files with tables, and lines that say how far they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from edgecap.runtime.machine.facts import cpu_kind, machine


def write_report(path: Path, title: str, protocol: str, tables: Sequence[str]) -> None:
    """Write a Markdown file: its title, how its figures were made, and lines of tables; print its path."""
    path.write_text("\n".join([f"# {title}", "", protocol, "", *tables]) + "\n", encoding="utf-8")
    click.echo(path)


def write_section(path: Path, title: str, protocol: str, lines: Sequence[str]) -> None:
    """Write a report's section on this machine, in the place of its last one; those of other machines stay."""
    here = f"{cpu_kind()}: {machine().cpu}"
    found = {**_sections(path), here: "\n".join(lines)}
    write_report(path, title, protocol, [f"## {name}\n\n{text.strip()}\n" for name, text in found.items()])


def _sections(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    parts = re.split(r"^## (.+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def say(line: str) -> None:
    """To stderr."""
    click.echo(line, err=True)
