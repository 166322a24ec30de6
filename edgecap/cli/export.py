"""``edgecap export``: a checkpoint becomes a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from edgecap.cli.options import photos_option


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Directory of the bundle.")
@click.option("--fp32", is_flag=True, help="Carry fp32 graphs (the default without --int8).")
@click.option("--int8", is_flag=True, help="Carry INT8 graphs: needs photos to calibrate on.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="EDGECAP_DATA",
    help="Captioned photos: train calibrates, val is evaluated into eval.json and the card.  [env: EDGECAP_DATA]",
)
@photos_option
@click.option("--calibration", type=click.Path(path_type=Path), help="A folder of photos to calibrate on instead.")
@click.option("--no-evaluate", is_flag=True, help="Do not caption the val split.")
@click.option("--preset", help="Refuse a checkpoint of another preset.")
@click.option("--name", help="Name of the bundle.  [default: the preset]")
@click.option("--notes", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Text for the model card.")
def export(
    checkpoint: Path,
    output: Path,
    fp32: bool,
    int8: bool,
    data: Path | None,
    photos: Path | None,
    calibration: Path | None,
    no_evaluate: bool,
    preset: str | None,
    name: str | None,
    notes: Path | None,
) -> None:
    """Make a bundle from CHECKPOINT: encoder and decoder step as ONNX, checked against torch.

    A bundle that is already in the output directory is replaced at once when the new one is whole, and stays as it is
    when anything fails.

    Exit status: 0 exported, 1 failed, 2 wrong usage.
    """
    from edgecap.data.karpathy import load_dataset
    from edgecap.export.calibration import from_dataset, from_folder
    from edgecap.export.exporter import ExportRequest, export_bundle
    from edgecap.export.recipe import ExportRecipe

    if int8 and not (data or calibration):
        raise click.UsageError("--int8 needs photos to calibrate on: name some with --data or --calibration")
    chosen = tuple(precision for precision, wanted in (("fp32", fp32), ("int8", int8)) if wanted)
    recipe = ExportRecipe(precisions=chosen or ("fp32",))
    dataset = load_dataset(data, photos) if data else None
    calibration_set = None
    if calibration:
        calibration_set = from_folder(calibration, recipe)
    elif dataset:
        calibration_set = from_dataset(dataset, recipe)
    request = ExportRequest(
        checkpoint=checkpoint,
        target=output,
        recipe=recipe,
        name=name,
        preset=preset,
        calibration=calibration_set,
        evaluate_on=None if no_evaluate else dataset,
        notes=notes.read_text(encoding="utf-8", errors="replace") if notes else "",
    )
    bundle = export_bundle(request, say=lambda line: click.echo(line, err=True))
    size = sum(entry.bytes for entry in bundle.manifest.files)
    click.echo(f"{output}  {bundle.manifest.label}  {size / 1e6:.1f} MB")
