"""What a caption costs as beam, batch, photo, vocabulary and threads grow: ``python -m edgecap.benchmarks.growth``.

Writes growth.json and growth.png beside this file. With ``--stream N``, also the memory of the command line while it
captions N photos one after the other, which is to stay flat: the exit status is 1 when it does not.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch

from edgecap.architectures.checkpoint import Checkpoint, save_checkpoint
from edgecap.architectures.lstm.dims import PRESETS
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.benchmarks.contest import Contestant, medians
from edgecap.benchmarks.photos import sample_photo
from edgecap.benchmarks.soak import Curve, check_flat, streamed
from edgecap.data.karpathy import load_dataset
from edgecap.data.mixture import Mixture
from edgecap.export.compress.calibration import from_datasets
from edgecap.export.exporter import ExportRequest, export_bundle
from edgecap.export.recipe import ExportRecipe
from edgecap.runtime import Caption, Captioner, load
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.runtime.machine.facts import machine
from edgecap.runtime.machine.probes import usable_cores

HERE = Path(__file__).parent
BEAMS, BATCHES = range(1, 11), (1, 2, 4, 8, 16, 32, 64)
MEGAPIXELS = (0.1, 0.3, 1, 3, 12, 25, 50)
WORDS = (1000, 2500, 5000, 10000, 20000)
ROUNDS, SECONDS = 5, 0.4

WORDS_SAID = 12  # of every caption, so that curves differ by one thing only
STREAMED = "photos captioned by one process"


def curves(bundle: Path, data: Path, folder: Path) -> Iterator[tuple[str, Curve]]:
    """By what grows. On one thread, but for the threads."""
    photo = _photo(folder / "photo.jpg", 1.0)
    with load(bundle, threads=1) as captioner:
        yield "beam", _rates({beam: _caption(captioner, [photo], beam) for beam in BEAMS})
        yield "photos in a batch", _rates({count: _caption(captioner, [photo] * count, 5) for count in BATCHES})
        photos = {size: _photo(folder / f"{size}.jpg", size) for size in MEGAPIXELS}
        yield "megapixels", _rates({size: _caption(captioner, [path], 5) for size, path in photos.items()})
    opened = {count: load(bundle, threads=count) for count in range(1, usable_cores() + 1)}
    yield "threads", _rates({count: _caption(captioner, [photo], 5) for count, captioner in opened.items()})
    known = {size: load(_untrained(size, data, folder), threads=1) for size in WORDS}
    yield "words of the vocabulary", _rates({size: _caption(known[size], [photo], 5) for size in WORDS})


def _caption(captioner: Captioner, photos: Sequence[Path], beam: int) -> tuple[Contestant, int]:
    """As many captions as photos, and how many these are."""

    def captions() -> list[Caption]:
        return captioner.caption_batch(photos, beam=beam, min_length=WORDS_SAID, max_length=WORDS_SAID)

    return Contestant("", "", captions), len(photos)


def _rates(contestants: Mapping[float, tuple[Contestant, int]]) -> Curve:
    times = medians([contestant for contestant, _ in contestants.values()], ROUNDS, SECONDS)
    return [(size, 1e3 * count / ms) for (size, (_, count)), ms in zip(contestants.items(), times, strict=True)]


def _photo(path: Path, megapixels: float) -> Path:
    """A JPEG of that size, 4 to 3."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    return sample_photo(path, height * 4 // 3, height)


def _untrained(words: int, data: Path, folder: Path) -> Path:
    """An INT8 bundle of the preset base that has learnt nothing, for a vocabulary of that size."""
    vocabulary = Vocabulary((*SPECIAL_TOKENS, *(f"w{number}" for number in range(words - len(SPECIAL_TOKENS)))))
    torch.manual_seed(0)
    model = CaptionModel(replace(PRESETS["base"], vocab_size=words))
    checkpoint = folder / f"{words}.safetensors"
    save_checkpoint(checkpoint, Checkpoint(model.dims, vocabulary, model.state_dict(), {}, {}, {}, {}), half=True)
    recipe = ExportRecipe(("onnx",), ("int8",))
    calibration = from_datasets(Mixture.of(load_dataset(data)), recipe).first(32)
    request = ExportRequest(checkpoint, folder / f"{words}", recipe, calibration=calibration)
    export_bundle(request, lambda line: None)
    return folder / f"{words}"


def draw(document: Mapping[str, Any], path: Path) -> None:
    """A plot for each curve."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = document["curves"]
    figure = Figure(figsize=(11, 3.2 * -(-len(found) // 2)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, curve) in zip(figure.subplots(-(-len(found) // 2), 2).flat, found.items(), strict=False):
        sizes, values = zip(*curve, strict=True)
        axes.plot(sizes, values, marker="" if len(curve) > 20 else "o")
        memory = name == STREAMED
        axes.set(xlabel=name, ylabel="megabytes" if memory else "captions a second", ylim=(0, 1.15 * max(values)))
        if name in ("megapixels", "words of the vocabulary", "photos in a batch"):
            axes.set_xscale("log")
        if not memory:
            axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
            axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.suptitle(f"{document['bundle']} on {document['machine']['cpu']}", fontsize="medium")
    figure.savefig(path, dpi=100)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGECAP_DATA", required=True, help="To calibrate on.")
@click.option("--bundle", type=click.Path(path_type=Path), default="models/base/bundle", show_default=True)
@click.option(
    "--stream", type=click.IntRange(100), metavar="N", help="Also caption N photos, and check that the memory is flat."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=HERE, help="Folder of the results.")
def main(data: Path, bundle: Path, stream: int | None, output: Path) -> None:
    """Measure, and draw."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="edgecap-") as folder:
        found = {}
        for name, curve in curves(bundle, data, Path(folder)):
            click.echo(f"{name}: {', '.join(f'{size:g} {value:.1f}/s' for size, value in curve)}", err=True)
            found[name] = curve
        if stream:
            found[STREAMED] = streamed(bundle, stream, Path(folder), options=["--beam", "1", "--threads", "1"])
    document = {"bundle": Bundle.open(bundle).manifest.label, "machine": asdict(machine()), "curves": found}
    (output / "growth.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    draw(document, output / "growth.png")
    click.echo(output / "growth.png")
    if stream:
        check_flat(found[STREAMED])


if __name__ == "__main__":
    main()
