"""A page of photos and what models say of them, to look at: ``python -m edgecap.benchmarks.gallery DIR -o page.html``.

The page holds its photos, made small, so it may be looked at wherever it is; whether it may be shown depends on them.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import click
from PIL import Image, ImageOps

from edgecap.errors import EdgecapError
from edgecap.runtime import load
from edgecap.runtime.machine.atomic_write import write_atomically
from edgecap.runtime.photo.folder import photos_in

WIDTH, QUALITY = 320, 80  # of the small photos: pixels, and JPEG's
SURE = 0.35  # from so high a probability that it is right a caption is not printed in grey

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.4 sans-serif; margin: 1.5em; max-width: 75em }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(20em, 1fr)); gap: 1.5em }}
figure {{ margin: 0 }} img {{ width: 100%; height: 15em; object-fit: contain; object-position: left bottom }}
dt {{ float: left; width: 4em; clear: left; color: #555 }} dd {{ margin: 0 0 .3em 4.5em }} .unsure {{ color: #888 }}
</style>
<h1>{title}</h1>
<p>{legend}</p>
<main>
{figures}
</main>
</html>
"""


def picture(photo: Path) -> str:
    """A photo, upright and small, as the address of a JPEG that is in the page itself."""
    with Image.open(photo) as opened:
        small = ImageOps.exif_transpose(opened).convert("RGB")
    small.thumbnail((WIDTH, 2 * WIDTH))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def said(models: Sequence[Path], photos: Sequence[Path]) -> dict[Path, list[str]]:
    """Of each photo the lines of a description list: what each model says of it, or why it does not."""
    lines: dict[Path, list[str]] = {photo: [] for photo in photos}
    for model in models:
        with load(model) as captioner:
            for photo in photos:
                try:
                    caption = captioner.caption(photo)
                    text, confidence = caption.reason or caption.text, caption.confidence
                except EdgecapError as error:
                    text, confidence = str(error).removeprefix(f"{photo}: "), None
                unsure = confidence is None or confidence < SURE
                share = "" if confidence is None else f" ({confidence:.0%})"
                line = f"<dd{' class=unsure' if unsure else ''}>{html.escape(text + share)}</dd>"
                lines[photo].append(f"<dt>{html.escape(model.name)}</dt>{line}")
    return lines


def figure(photo: Path, lines: Sequence[str]) -> str:
    """A photo over its lines, or its name where it cannot be read."""
    name = html.escape(photo.name, quote=True)
    try:
        shown = f'<img src="{picture(photo)}" alt="{name}" loading="lazy">'
    except OSError:
        shown = name
    return f"<figure>{shown}<figcaption><dl>{''.join(lines)}</dl></figcaption></figure>"


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("gallery.html"))
@click.option("--models", type=click.Path(path_type=Path), multiple=True, help="Bundles.  [default: the three models]")
@click.option("--most", default=40, show_default=True, help="So many photos, in the order of their names.")
def main(folder: Path, output: Path, models: tuple[Path, ...], most: int) -> None:
    """Caption the photos of FOLDER by each model, and write the page."""
    bundles = models or tuple(Path("models") / name for name in ("plus", "base", "tiny"))
    photos = photos_in(folder)[0][:most]
    if not photos:
        raise click.ClickException(f"{folder}: holds no photo")
    lines = said(bundles, photos)
    legend = f"In grey what is right less often than {SURE:.0%}, by the model's own reckoning; in brackets how often."
    figures = "\n".join(figure(photo, lines[photo]) for photo in photos)
    with write_atomically(output) as partial:
        page = _PAGE.format(title=f"{len(photos)} photos: {html.escape(folder.name)}", legend=legend, figures=figures)
        partial.write_text(page, encoding="utf-8")
    click.echo(f"{output}: {len(photos)} photos, {output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
