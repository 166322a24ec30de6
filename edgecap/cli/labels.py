"""``edgecap labels``: tables of labels, made where there is a text side, for devices that have none."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgecap.cli import fail
from edgecap.cli.label_lists import names_a_line
from edgecap.runtime import load_labeller
from edgecap.runtime.machine.atomic_write import write_atomically
from edgecap.runtime.wording import counted
from edgecap.text.spaces import text_side
from edgecap.text.table_making import table_of


@click.group()
def labels() -> None:
    """Make tables of labels."""


@labels.command()
@click.argument("words", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="File of the table: JSON.")
@click.option(
    "--bundle", metavar="DIR", required=True, help="The labeller that the table is for: a bundle's directory."
)
@click.option(
    "--precision",
    type=click.Choice(["int8", "fp16"]),
    default="int8",
    show_default=True,
    help="Of the vectors: int8 takes half as much room.",
)
def build(words: Path, output: Path, bundle: str, precision: str) -> None:
    """Make a table of the labels in the file WORDS, for `edgecap label --table`: that needs no text model then.

    WORDS has a label a line, in UTF-8: a word or a phrase, and behind it, with tabs between, other names of the same
    label, such as synonyms and other languages'. The first name is embedded and is what photos are labelled with.

    A name that the bundle's own table has keeps its vector, and how likely it is at which similarity. Others are
    embedded in the bundle's space, which takes the extra `labels`, and are taken to be as likely as the bundle's labels
    are in the median: nothing is calibrated on them.

    Exit status: 0 made, 1 the bundle or the file cannot be read, or the table not be written, 2 wrong usage.
    """
    listed = names_a_line(words)
    with load_labeller(bundle) as labeller:
        table, embedded = table_of(listed, labeller.table, text_side(labeller.table.space), precision)
    output.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(output) as partial:
        partial.write_text(json.dumps(table.to_json(), ensure_ascii=False) + "\n", encoding="utf-8")
    if embedded:
        fail(f"{counted(embedded, 'label')} not calibrated: as likely as the bundle's labels are in the median")
    click.echo(f"{output}  {counted(len(table), 'label')}  {output.stat().st_size / 1e6:.1f} MB")
