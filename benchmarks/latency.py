"""Where the milliseconds of one caption go: ``python -m edgecap.benchmarks.latency PHOTO... --threads 1,2``."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import click

from edgecap.runtime import Captioner, Timings, load

WARM_UP = 3
COLUMNS = ("decode and preprocess", "encoder", "steps", "total")


def measure(captioner: Captioner, photos: Sequence[Path], beam: int) -> list[float]:
    """Median milliseconds of a photo, in the order of :data:`COLUMNS`, after a warm-up."""
    for photo in photos[:WARM_UP]:
        captioner.caption(photo, beam=beam)
    timings = [captioner.caption(photo, beam=beam).timings for photo in photos]
    return [median(column) for column in zip(*map(_parts, timings), strict=True)]


def _parts(timings: Timings) -> tuple[float, float, float, float]:
    return timings.preprocess_ms, timings.encoder_ms, timings.steps_ms, timings.total_ms


@click.command()
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--bundle", metavar="NAME|DIR")
@click.option("--backend", default="auto", show_default=True)
@click.option("--precision", default="auto", show_default=True)
@click.option("--threads", default="1,2", show_default=True, help="Thread counts, with commas.")
@click.option("--beams", default="1,5", show_default=True, help="Beam sizes, with commas; 1 is greedy.")
def main(photos: tuple[Path, ...], bundle: str | None, backend: str, precision: str, threads: str, beams: str) -> None:
    """Print a Markdown table of median milliseconds a photo, file to text."""
    rows = []
    for count in map(int, threads.split(",")):
        with load(bundle, backend=backend, precision=precision, threads=count) as captioner:
            named = f"{captioner.bundle.manifest.name} {captioner.precision}, {captioner.backend.name}"
            rows += [(count, beam, measure(captioner, photos, beam)) for beam in map(int, beams.split(","))]
    click.echo(f"{named}, {platform.machine()}, {len(photos)} photos, medians in ms\n")
    click.echo("| threads | beam | " + " | ".join(COLUMNS) + " |")
    click.echo("|---" * (2 + len(COLUMNS)) + "|")
    for count, beam, values in rows:
        click.echo(f"| {count} | {beam} | " + " | ".join(f"{value:.1f}" for value in values) + " |")


if __name__ == "__main__":
    main()
