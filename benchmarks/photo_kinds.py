"""How far the photos of a folder are from what is taken for no photo: ``python -m edgecap.benchmarks.photo_kinds DIR``.

Prints how many are taken for one colour, noise, a flat drawing or a strip, which, and the extremes of what is measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from edgecap.errors import ImageError
from edgecap.runtime.bundle.bundle import Bundle, find_bundle
from edgecap.runtime.photo.folder import photos_in
from edgecap.runtime.photo.not_a_photo import Look, look_at, why_not_a_photo
from edgecap.runtime.photo.preprocess import pixels_to_judge


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folders: tuple[Path, ...]) -> None:
    """Judge every photo of FOLDERS, with their subfolders."""
    config, kinds, looks = Bundle.open(find_bundle()).preprocess, Counter[str](), []
    for path in photos(folders):
        try:
            pixels, size = pixels_to_judge(path, config)
        except ImageError as error:
            click.echo(f"{path}: {error.problem}")
            kinds["unreadable"] += 1
            continue
        reason = why_not_a_photo(pixels, size)
        kinds["photos" if reason is None else reason.partition(": ")[2].split(" of ")[0]] += 1
        if reason is not None:
            click.echo(f"{path}: {reason}")
        looks.append((look_at(pixels), path))
    click.echo(", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))
    for line in extremes(looks):
        click.echo(line)


def photos(folders: tuple[Path, ...]) -> Iterator[Path]:
    """All photos below the folders, in order."""
    for folder in folders:
        for place in (folder, *sorted(path for path in folder.rglob("*") if path.is_dir())):
            yield from photos_in(place)[0]


def extremes(looks: list[tuple[Look, Path]]) -> Iterator[str]:
    """A line for each thing that is measured: the photo that is closest to its limit."""
    if not looks:
        return
    look, path = min(looks, key=lambda one: one[0].deviation)
    yield f"least deviation {look.deviation:.1f}, with a range of {look.range:.0f}: {path}"
    look, path = min(looks, key=lambda one: _beyond_noise(one[0]))
    shown = ", ".join(f"{value:.2f} at {distance}" for distance, value in look.correlations.items())
    yield f"least correlations {shown}: {path}"
    look, path = max(looks, key=lambda one: (one[0].drawn_flat, one[0].flat))
    yield f"flattest {look.flat:.2f}, {look.drawn_flat:.2f} of what is drawn: {path}"


def _beyond_noise(look: Look) -> float:
    """How many times its limit the correlation is that is the farthest beyond."""
    return max(look.correlations[distance] / limit for distance, limit in look.most.items())


if __name__ == "__main__":
    main()
