"""``edgecap train``: a captioner from photos and captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecap.architectures.registry import presets
from edgecap.cli import fail
from edgecap.cli.options import data_option, photos_option, strict_option, with_photos
from edgecap.recipes import recipe_names, recipe_path

if TYPE_CHECKING:
    from edgecap.data.mixture import DataSource


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r:.60} is not NAME=VALUE", param_hint="--set")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value  # a bare word is text


@click.command()
@data_option
@photos_option
@strict_option
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Run folder.")
@click.option("--recipe", type=click.Choice(recipe_names()), help="A configuration by its name, instead of a file.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="TOML file with the options of a run.")
@click.option("--preset", type=click.Choice(list(presets())), help="Overrides recipe and file, as all that follow.")
@click.option("--start-from", metavar="FILE", help="A checkpoint to learn on from: its weights, and its words first.")
@click.option("--backbone-weights", metavar="FILE", help="Weights that the backbone starts from: safetensors.")
@click.option("--unlabelled", metavar="FOLDER", help="Photos without captions, to distil on as well.")
@click.option("--task-teachers", metavar="FILES", help="Checkpoints of captioners to learn from, with commas.")
@click.option("--text", metavar="FILE", help="Sentences for the stage language: one a line.")
@click.option("--epochs", type=int, help="Epochs end to end: end_to_end.epochs.")
@click.option("--frozen-epochs", type=int, help="Epochs on the frozen backbone: frozen.epochs.")
@click.option("--batch-size", type=int, help="Photos in a step, each with all of its captions.")
@click.option("--seed", type=int, help="Seed of weights, order, crops and dropout.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any option, such as frozen.warmup=0.1.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of cached features, which runs may share.  [default: cache/ in the run folder]",
)
@click.option("--resume", is_flag=True, help="Continue the run in the folder, to the result it would have had.")
def train(
    data: tuple[DataSource, ...],
    photos: Path | None,
    strict: bool,
    output: Path,
    recipe: str | None,
    config_file: Path | None,
    preset: str | None,
    start_from: str | None,
    backbone_weights: str | None,
    unlabelled: str | None,
    task_teachers: str | None,
    text: str | None,
    epochs: int | None,
    frozen_epochs: int | None,
    batch_size: int | None,
    seed: int | None,
    settings: tuple[str, ...],
    cache: Path | None,
    resume: bool,
) -> None:
    """Train a captioner on a dataset in Karpathy's format (Flickr8k, Flickr30k, COCO) or in COCO's own.

    Captions and photos that cannot be used are named, counted and left out.

    Of several datasets, by --data more than once or a list `data` in the file of --config, each is validated apart,
    and the mean chooses the checkpoint. A weight says how often an epoch has each photo of a dataset:
    --data flickr8k/ --data coco/,weight=0.5 takes half of the second, drawn anew for each epoch.

    A run has up to five stages: the encoder is distilled from a teacher, the decoder learns language from sentences,
    then captions on cached features of the frozen backbone, then everything learns end to end, and last the model's
    own captions are rewarded by their CIDEr-D. A stage without epochs is left out.

    The run folder gets best.safetensors (for `edgecap export`), last.safetensors (for --resume), log.csv and
    curve.png. Ctrl-C stops after the current step; a killed run loses at most the steps since the last checkpoint.
    --resume goes on with the run's own options; stages that have not begun may be given others.

    Exit status: 0 trained, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.
    """
    from edgecap.data.mixture import load_mixture
    from edgecap.training.config import data_of
    from edgecap.training.machine.processes import rank
    from edgecap.training.run import train_run

    if recipe and config_file:
        raise click.UsageError("name a --recipe or a --config, not both")
    flags = {
        "preset": preset,
        "start_from": start_from,
        "backbone_weights": backbone_weights,
        "unlabelled": unlabelled,
        "task_teachers": task_teachers,
        "language.text": text,
        "end_to_end.epochs": epochs,
        "frozen.epochs": frozen_epochs,
        "batch_size": batch_size,
        "seed": seed,
    }
    configuration = recipe_path(recipe) if recipe else config_file
    sources = data or (data_of(configuration) if configuration else ())
    overrides = {name: value for name, value in flags.items() if value is not None} | dict(map(_setting, settings))
    result = train_run(
        load_mixture(with_photos(sources, photos), strict=strict, say=fail if rank() == 0 else lambda line: None),
        output,
        config_file=configuration,
        overrides=overrides,
        resume=resume,
        say=lambda line: click.echo(line, err=True),
        cache=cache,
    )
    if not result.first:
        return  # of several processes one speaks
    figure = "" if result.cider_d is None else f"  val CIDEr-D {result.cider_d:.2f}"
    click.echo(f"{result.checkpoint}{figure}")
