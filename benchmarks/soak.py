"""Whether the memory of the command line stays flat while it captions photo after photo.

``python -m edgecap.benchmarks.soak --photos 10000`` ends with exit status 1 when it does not.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import click

from edgecap.benchmarks.photos import sample_photo
from edgecap.errors import EXIT_FAILURE

MOST_GROWTH = 1.0  # MB, from the median of the second tenth of the photos to that of the last; the first warms up
SAMPLES = 500
SIZES = ((520, 390), (820, 615), (1160, 870))
Curve = list[tuple[float, float]]  # a value for each size


def streamed(bundle: Path, count: int, folder: Path, engine: str = "auto", options: Sequence[str] = ()) -> Curve:
    """Megabytes that the command line occupies, against the photos that it has captioned.

    Every fourth of the ``count`` photos, which are made in ``folder``, is damaged.
    """
    photos = [sample_photo(folder / f"stream{width}.jpg", width, height) for width, height in SIZES]
    damaged = folder / "damaged.jpg"
    content = photos[-1].read_bytes()
    damaged.write_bytes(content[: len(content) // 2])  # with more of it there, it would be captioned
    photos.append(damaged)
    command = [sys.executable, "-m", "edgecap", "caption", "--json", "--bundle", str(bundle), "--engine", engine]
    names = [str(photos[number % len(photos)]) for number in range(count)]
    found: Curve = []
    lines = 0
    with subprocess.Popen(
        [*command, *options, *names], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        for lines, _ in enumerate(process.stdout, 1):
            if lines % max(1, count // SAMPLES) == 0 and (megabytes := _resident(process.pid)):
                found.append((lines, megabytes))
        code = process.wait()
    if (code, lines) != (EXIT_FAILURE, count):  # of the damaged ones
        raise click.ClickException(f"edgecap caption ended with {code} after {lines} photos")
    return found


def growth(curve: Curve) -> float:
    """Megabytes, by which a curve is judged against :data:`MOST_GROWTH`."""
    megabytes = [value for _, value in curve]
    tenth = len(megabytes) // 10
    return median(megabytes[-tenth:]) - median(megabytes[tenth : 2 * tenth])


def check_flat(curve: Curve) -> None:
    """Say how much a curve grew. Raises ``ClickException``, with exit status 1, when that is too much."""
    photos, megabytes = curve[-1]
    grown = growth(curve)
    said = f"{megabytes:.1f} MB after {photos:.0f} photos, {grown:+.2f} MB since the first fifth"
    if grown > MOST_GROWTH:
        raise click.ClickException(f"{said}: not flat, {MOST_GROWTH:g} MB are allowed")
    click.echo(f"{said}: flat, {MOST_GROWTH:g} MB are allowed")


def _resident(pid: int) -> float:
    """Megabytes; 0 of a process that has ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    sizes = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return next(sizes, 0) * 1024 / 1e6


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), default="models/plus/bundle", show_default=True)
@click.option("--engine", default="auto", show_default=True)
@click.option("--photos", type=click.IntRange(100), default=10_000, show_default=True)
@click.argument("options", nargs=-1)
def main(bundle: Path, engine: str, photos: int, options: tuple[str, ...]) -> None:
    """Watch ``edgecap caption``; after --, OPTIONS of it such as --beam 1."""
    with tempfile.TemporaryDirectory(prefix="edgecap-") as folder:
        check_flat(streamed(bundle, photos, Path(folder), engine, options))


if __name__ == "__main__":
    main()
