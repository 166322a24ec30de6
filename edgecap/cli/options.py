"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecap.runtime.bundle.bundle import DEFAULT_BUNDLE
from edgecap.runtime.bundle.entries import ENGINES, PRECISIONS
from edgecap.runtime.bundle.generation import MAX_BEAM, MAX_LENGTH, MAX_LENGTH_PENALTY
from edgecap.runtime.loading import AUTO
from edgecap.runtime.machine.threads import MAX_THREADS

if TYPE_CHECKING:
    from edgecap.data.mixture import DataSource

MAX_BATCH = 256


class DatasetPath(click.Path):
    """A dataset with its options, ``PATH[,photos=FOLDER][,weight=W]``: an ``edgecap.data.mixture.DataSource``."""

    name = "PATH[,photos=FOLDER][,weight=W]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Wrong options are wrong usage."""
        from edgecap.data.mixture import DataSource  # not for commands without datasets
        from edgecap.errors import ConfigError

        try:
            return DataSource.parse(value) if isinstance(value, str) else value
        except ConfigError as error:
            self.fail(str(error), param, ctx)


data_option = click.option(
    "--data",
    type=DatasetPath(),
    multiple=True,
    envvar="EDGECAP_DATA",
    help="A dataset: captions in Karpathy's JSON or in COCO's own, or the folder that holds dataset*.json and images/; "
    "may be given more than once.  [env: EDGECAP_DATA]",
)
photos_option = click.option(
    "--photos",
    type=click.Path(path_type=Path),
    help="Photo folder of the only dataset, if it is not images/ beside the captions file.",
)


def with_photos(data: Sequence[DataSource], photos: Path | None) -> list[DataSource]:
    """The datasets, of which a single one may have its photo folder named apart."""
    if not data:
        raise click.UsageError("Missing option '--data'.")
    if photos is not None and (len(data) > 1 or data[0].photos is not None):
        raise click.UsageError("--photos is for a single --data: of several say PATH,photos=FOLDER")
    return [replace(data[0], photos=photos)] if photos is not None else list(data)


strict_option = click.option(
    "--strict",
    is_flag=True,
    help="Refuse a dataset with a caption or photo that cannot be used, rather than leave it out.",
)

# Of a captioner, and of the search of one call; what is not given follows the bundle.
bundle_option = click.option(
    "--bundle",
    metavar="NAME|DIR",
    help="The captioner: a bundle's directory, or the name of one that comes with the package; of two with that name, "
    f"the one in the working directory.  [default: {DEFAULT_BUNDLE} of the package]",
)
precision_option = click.option(
    "--precision",
    metavar=f"[{'|'.join([AUTO, *PRECISIONS])}|NAME]",
    default=AUTO,
    show_default=True,
    help="Of the graph set; NAME is what a bundle calls one of several precisions. auto: the fastest that the bundle "
    "has, whose captions were found good, and that the engine takes; what `edgecap bench --sweep` found here goes "
    "first.",
)
engine_option = click.option(
    "--engine",
    type=click.Choice([AUTO, *ENGINES]),
    default=AUTO,
    show_default=True,
    help="ONNX Runtime or LiteRT. auto: the first that is installed and that the bundle has graphs for; "
    "what `edgecap bench --sweep` found here goes first.",
)


class ThreadCount(click.IntRange):
    """A number, or ``auto``, which is ``None``."""

    name = "auto|N"

    def __init__(self) -> None:
        super().__init__(1, MAX_THREADS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """``auto`` and numbers from 1 on."""
        return None if value == AUTO else super().convert(value, param, ctx)


threads_option = click.option(
    "--threads",
    type=ThreadCount(),
    default=AUTO,
    show_default=True,
    help="CPU threads. auto: the fastest number that `edgecap bench --sweep` found here, or the cores, at most 4.",
)
batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(1, MAX_BATCH),
    default=1,
    show_default=True,
    help="Photos that share the runs of graphs: more photos a second, but each waits for its batch.",
)
beam_option = click.option(
    "--beam", type=click.IntRange(1, MAX_BEAM), help="Sentences pursued at a time; 1 is fastest."
)
max_length_option = click.option(
    "--max-length", type=click.IntRange(1, MAX_LENGTH), help="Words of a sentence at most."
)
length_penalty_option = click.option(
    "--length-penalty",
    type=click.FloatRange(-MAX_LENGTH_PENALTY, MAX_LENGTH_PENALTY),
    help="0 ranks sentences by probability; larger favours longer ones.",
)
