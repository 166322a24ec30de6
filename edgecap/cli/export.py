"""``edgecap export``: a checkpoint becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecap.cli import fail
from edgecap.cli.options import data_option, photos_option, strict_option, with_photos
from edgecap.errors import DataError

if TYPE_CHECKING:
    from edgecap.data.mixture import DataSource, Mixture
    from edgecap.export.compress.calibration import CalibrationSet
    from edgecap.export.recipe import ExportRecipe


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Directory of the bundle.")
@click.option("--onnx", is_flag=True, help="Carry graphs for ONNX Runtime.")
@click.option("--tflite", is_flag=True, help="Carry graphs for LiteRT (TensorFlow Lite).")
@click.option("--fp32", is_flag=True, help="Carry fp32 graphs.")
@click.option("--fp16", is_flag=True, help="Carry graphs whose weights are stored half; they compute in fp32.")
@click.option("--int8", is_flag=True, help="Carry INT8 graphs: needs photos to calibrate on.")
@data_option
@photos_option
@strict_option
@click.option(
    "--calibration",
    metavar="DIR|IDS",
    help="Calibrate on these photos instead: a folder, or photos of --data by a calibration.json, a file with an id a "
    "line, or ids with commas.",
)
@click.option("--no-evaluate", is_flag=True, help="Do not caption the val split.")
@click.option("--preset", help="Refuse a checkpoint of another preset.")
@click.option("--name", help="Name of the bundle.  [default: the preset]")
@click.option("--notes", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Text for the model card.")
def export(
    checkpoint: Path,
    output: Path,
    onnx: bool,
    tflite: bool,
    fp32: bool,
    fp16: bool,
    int8: bool,
    data: tuple[DataSource, ...],
    photos: Path | None,
    strict: bool,
    calibration: str | None,
    no_evaluate: bool,
    preset: str | None,
    name: str | None,
    notes: Path | None,
) -> None:
    """Make a bundle from CHECKPOINT: encoder and decoder step for both engines in fp32, fp16 and INT8.

    --onnx, --tflite, --fp32, --fp16 and --int8 choose some of these. Every graph is checked against torch; with --data,
    photos of train calibrate INT8, and the captions of val say what each precision costs, in eval.json and the card: of
    several datasets, by --data more than once, each has its own figures beside their mean.

    A bundle that is already in the output directory is replaced at once when the new one is whole, and stays as it is
    when anything fails.

    Exit status: 0 exported, 1 failed, 2 wrong usage, 130 interrupted.
    """
    from edgecap.data.mixture import load_mixture
    from edgecap.export.exporter import ExportRequest, export_bundle
    from edgecap.export.recipe import ExportRecipe

    engines = [name for name, wanted in (("onnx", onnx), ("tflite", tflite)) if wanted]
    precisions = [name for name, wanted in (("fp32", fp32), ("fp16", fp16), ("int8", int8)) if wanted]
    recipe = ExportRecipe(
        engines=tuple(engines) or ExportRecipe.engines, precisions=tuple(precisions) or ExportRecipe.precisions
    )
    if "int8" in recipe.precisions and not (data or calibration):
        asked = "--int8" if int8 else "INT8, which --fp32 and --fp16 would leave out,"
        raise click.UsageError(f"{asked} needs photos to calibrate on: name some with --data or --calibration")
    datasets = load_mixture(with_photos(data, photos), strict=strict, say=fail) if data else None
    calibration_set = _calibration(calibration, datasets, recipe)
    request = ExportRequest(
        checkpoint=checkpoint,
        target=output,
        recipe=recipe,
        name=name,
        preset=preset,
        calibration=calibration_set,
        evaluate_on=None if no_evaluate else datasets,
        notes=notes.read_text(encoding="utf-8", errors="replace") if notes else "",
    )
    bundle = export_bundle(request, say=lambda line: click.echo(line, err=True))
    size = sum(entry.bytes for entry in bundle.manifest.files)
    click.echo(f"{output}  {bundle.manifest.label}  {size / 1e6:.1f} MB")


def _calibration(given: str | None, datasets: Mixture | None, recipe: ExportRecipe) -> CalibrationSet | None:
    from edgecap.export.compress.calibration import from_datasets, from_folder, from_ids, is_path, read_ids

    if given is None:
        return from_datasets(datasets, recipe) if datasets else None
    if is_path(given) and Path(given).is_dir():
        return from_folder(Path(given), recipe)
    if datasets is None:
        raise DataError(given, "no such folder of calibration photos; photos by their ids need --data")
    return from_ids(datasets, read_ids(given))
