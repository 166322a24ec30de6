"""``edgecap label``: photos in, the likeliest labels of each out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import click

from edgecap.cli import fail, json_text
from edgecap.cli.label_lists import a_line_each, with_commas
from edgecap.cli.options import batch_size_option, engine_option, precision_option, threads_option
from edgecap.cli.photo_answers import answer, requested, tell_notes
from edgecap.runtime import Labels, load_labeller
from edgecap.runtime.caption import Prepared
from edgecap.runtime.labeller import TOP, check_options
from edgecap.runtime.labels.label_answer import label_line, label_record
from edgecap.runtime.labels.table import MAX_LABELS
from edgecap.runtime.wording import counted
from edgecap.text.spaces import text_side


@click.command()
@click.argument("images", metavar="PHOTO...", nargs=-1, required=True)
@click.option("--labels", metavar="NAME,...", help="Labels to choose among.  [default: all of the table]")
@click.option(
    "--labels-file", metavar="FILE", type=click.Path(path_type=Path), help="More of them, one a line, in UTF-8."
)
@click.option(
    "--table", metavar="FILE", type=click.Path(path_type=Path), help="Another table of labels than the bundle's."
)
@click.option("--top", type=click.IntRange(1, MAX_LABELS), help=f"Labels of a photo at most.  [default: {TOP}]")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Leave out labels that are right with a lower probability than P.  [default: the table's, of each label]",
)
@click.option("--keep", metavar="NAME", help="Print only the paths of photos that have this label.")
@click.option(
    "--min", "least", type=click.FloatRange(0, 1), metavar="P", help="With --keep, what --threshold is without."
)
@click.option("--bundle", metavar="NAME|DIR", help="The labeller: a bundle's directory. None comes with this version.")
@engine_option
@precision_option
@threads_option
@batch_size_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def label(
    images: tuple[str, ...],
    labels: str | None,
    labels_file: Path | None,
    table: Path | None,
    top: int | None,
    threshold: float | None,
    keep: str | None,
    least: float | None,
    bundle: str | None,
    engine: str,
    precision: str,
    threads: int | None,
    batch_size: int,
    as_json: bool,
) -> None:
    """Label photos, in one line each: "path: dog 0.93, beach 0.41", or only the labels when one photo is asked for.

    PHOTO is a file, a directory, or - for a photo on stdin, as for `edgecap caption`, whose help says what is read and
    what is skipped. A number is the probability that the label is right, by the table's calibration. Where no label is
    likely enough, the line says "not sure"; what is no photo is "not a photo".

    The bundle has a table of labels: names, and for each a vector of the space that photos are embedded in. --labels
    chooses among them by any name that the table has, a synonym or another language's, in whatever case; names with
    commas stand in double quotes. A word that the table does not have is embedded where the extra `labels` is
    installed, once, and kept in the user's cache; elsewhere it is answered with the nearest names. --table takes the
    table from another file, which must be of the same space: `edgecap labels build` makes one.

    With --keep, a photo's path is printed when it has this label, and nothing otherwise; that none has is no failure.

    With --json: {"path", "labels": [{"name", "confidence", "similarity"}], "reason", "damaged", "timings_ms", "bundle",
    "engine", "library", "precision"}, and photos that failed {"path", "error"}. With --keep, of photos that are kept.

    \b
    Exit status:
      0    every photo was labelled, or is none
      1    some photos, the bundle, the table or the file of labels could not be read
      2    wrong usage, such as a word that no label has, a table of another space, or a bundle that makes no labels
      130  interrupted
    """
    others = {"--labels": labels, "--labels-file": labels_file, "--top": top, "--threshold": threshold}
    _check_choices(keep, least, others)
    names = _names(labels, labels_file, keep)
    most, enough = (TOP if top is None else top, threshold) if keep is None else (1, least)
    check_options(most, enough)
    asked = requested(images)
    with load_labeller(bundle, table=table, engine=engine, precision=precision, threads=threads) as labeller:
        tell_notes(labeller, engine, precision)
        labeller.text = text_side(labeller.table.space)
        wanted = labeller.choose(names)  # a word that no label has is found before the first photo is read
        if wanted.doubles:
            count, first = len(wanted.doubles), wanted.doubles[0]
            fail(f"{counted(count, 'label')} asked for more than once, such as {first!r}: answered once")

        def begin() -> Callable[[Sequence[Prepared]], Sequence[Labels]]:
            return lambda photos: labeller.label_batch(photos, wanted, top=most, threshold=enough)

        def lines(path: str, result: Labels | str) -> Iterable[str]:
            if keep is not None and isinstance(result, Labels) and not result.labels:
                return []
            if as_json:
                return [json_text({"path": path, **label_record(labeller, result)})]
            if isinstance(result, str):
                return []
            return [path if keep is not None else asked.line(path, label_line(result))]

        answer(labeller, asked, batch_size, begin, lines)


def _names(labels: str | None, labels_file: Path | None, keep: str | None) -> list[str] | None:
    """The names that are asked for; ``None`` for all of the table."""
    if keep is not None:
        return [keep]
    if labels is None and labels_file is None:
        return None
    return [*with_commas(labels or ""), *(a_line_each(labels_file) if labels_file else ())]


def _check_choices(keep: str | None, least: float | None, others: Mapping[str, object]) -> None:
    """Whether options are given that mean something together. Raises ``click.UsageError``."""
    if keep is None and least is not None:
        raise click.UsageError("--min is for --keep: without, say --threshold")
    given = [name for name, value in others.items() if value is not None]
    if keep is not None and given:
        raise click.UsageError(f"--keep asks for one label, so {given[0]} means nothing beside it")
