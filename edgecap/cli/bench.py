"""``edgecap bench``: what a caption costs on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from edgecap.bench.energy.caption_energy import energy_sources
from edgecap.bench.others import BUSY
from edgecap.bench.report import Row, Setting, measure_row, report
from edgecap.bench.sweep import measurements, possible_settings, sound_settings
from edgecap.cli import fail, one_line
from edgecap.cli.options import beam_option, bundle_option, engine_option, precision_option
from edgecap.cli.photo_requests import expand
from edgecap.cli.tables import table
from edgecap.errors import BundleError, ImageError, MissingExtraError, OptionError
from edgecap.runtime.bundle.bundle import Bundle, find_bundle
from edgecap.runtime.bundle.documents import read_golden
from edgecap.runtime.loading import load
from edgecap.runtime.machine.atomic_write import write_atomically
from edgecap.runtime.machine.threads import MAX_THREADS
from edgecap.runtime.machine.tuning import check_place, remember
from edgecap.runtime.photo.preprocess import to_tensor
from edgecap.runtime.wording import counted, human_bytes

CAPTIONS = 50


def thread_counts(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """``1,2,4``."""
    if text is None:
        return None
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = ()
    if not counts or not all(1 <= count <= MAX_THREADS for count in counts):
        raise click.BadParameter(f"{text!r} is not a list of numbers from 1 to {MAX_THREADS}, such as 1,2,4")
    return counts


@click.command()
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@bundle_option
@engine_option
@precision_option
@click.option("--threads", callback=thread_counts, help="Thread counts, with commas.  [default: the cores, at most 4]")
@beam_option
@click.option(
    "--captions", type=click.IntRange(5, 100_000), default=CAPTIONS, show_default=True, help="Captions to be timed."
)
@click.option("--sweep", is_flag=True, help="Try every engine, precision and thread count, and keep the fastest.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures there.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path, dir_okay=False), help="Draw them there, as PNG.")
def bench(
    images: tuple[str, ...],
    bundle: str | None,
    engine: str,
    precision: str,
    threads: tuple[int, ...] | None,
    beam: int | None,
    captions: int,
    sweep: bool,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Time captions of IMAGE, files or directories, by default the bundle's golden photo, and measure their energy.

    The machine should have nothing else to do: where others used it meanwhile, that is said, and --sweep keeps nothing.
    Milliseconds are medians; --json has all percentiles.

    \b
    Columns:
      preprocess   from file to tensor
      encoder      once a photo
      step         once a word
      search       all around the steps of a caption
      total        from file to text; p90 and p99 beside it
      images/s     one photo after the other
      cold start   from nothing to the first caption of a new process
      memory       its peak

    Energy is what captions draw beyond the idle machine: measured by an INA219 or INA226, the Raspberry Pi 5's
    power-management chip or RAPL, or else estimated from processor time, and always told with its source.

    \b
    Exit status:
      0    measured
      1    a photo, or the bundle, could not be read
      2    wrong usage
      130  interrupted
    """
    check_targets(json_file, plot_file)
    if sweep:
        check_place()
    opened = Bundle.open(find_bundle(bundle))
    photos = chosen_photos(images, opened)
    beams = opened.generation.options(opened.vocabulary, beam=beam).beam
    if sweep:
        settings = sound_settings(opened, possible_settings(opened, engine, precision, threads, beams), fail)
    else:
        settings = chosen_settings(opened, engine, precision, threads, beams)
    source = energy_sources()[0]
    with click.progressbar(length=2 * captions * len(settings), label="captioning", file=sys.stderr) as bar:

        def rows() -> list[Row]:
            return [
                measure_row(opened.path, photos, captions, setting, source, lambda: bar.update(1))
                for setting in settings
            ]

        measured, document = report(opened, photos, captions, rows)
    if json_file is not None:
        with write_atomically(json_file) as partial:
            partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    if plot_file is not None:
        from edgecap.bench.plot import plot

        plot(document, plot_file)
    for line in lines(document):
        click.echo(one_line(line))
    busy = busy_cores(measured)
    if busy is not None:
        cores = counted(document["machine"]["cores"], "core")
        fail(f"the machine was busy: others used {busy:.1f} of {cores} meanwhile, so measure again")
    if sweep:
        click.echo("nothing is kept of a busy machine" if busy is not None else keep(opened, measured))


def chosen_settings(
    bundle: Bundle, engine: str, precision: str, threads: Sequence[int] | None, beam: int
) -> list[Setting]:
    """What captioning would use, for each of the thread counts."""
    with load(bundle.path, engine=engine, precision=precision, threads=threads[0] if threads else None) as captioner:
        return [
            Setting(captioner.engine, captioner.precision, count, beam) for count in threads or (captioner.threads,)
        ]


def keep(bundle: Bundle, rows: Sequence[Row]) -> str:
    """Remember a sweep; says what was the fastest, and where that is kept. Raises ``OSError``."""
    measured = measurements(rows)
    best = min(measured, key=lambda one: one.milliseconds)
    file = remember(bundle.manifest.bundle_id, measured)
    return (
        f"fastest: {best.engine} {best.precision} with {counted(best.threads, 'thread')}, {best.milliseconds:.1f} ms; "
        f"what is left to auto follows it on this machine ({file})"
    )


def busy_cores(rows: Sequence[Row]) -> float | None:
    """The most cores that others kept busy during a row, where that is enough to be in its times."""
    most = max((row.others_cores for row in rows if row.others_cores is not None), default=0.0)
    return most if most > BUSY else None


def check_targets(json_file: Path | None, plot_file: Path | None) -> None:
    """Raise now what would else be found out after all has been measured."""
    for file in filter(None, (json_file, plot_file)):
        if not file.parent.is_dir():
            raise OptionError(f"{file}: there is no such folder to write to")
    if plot_file is not None and find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "bench")


def chosen_photos(images: Sequence[str], bundle: Bundle) -> list[Path]:
    """The photos asked for, each of which can be read; else the golden one. Raises ``ImageError``, ``OptionError``."""
    if not images:
        golden = read_golden(bundle)
        if golden is None:
            raise BundleError(bundle.path, "has no golden photo: name photos to be captioned")
        return [bundle.path / golden.photo.path]
    requests = [request for image in images for request in expand(image)]
    for request in requests:
        if request.path == "-":
            raise OptionError("photos are read again and again, so none can come from stdin")
        if request.problem:
            raise ImageError(request.path, request.problem)
        to_tensor(request.path, bundle.preprocess)
    return [Path(request.path) for request in requests]


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """What people are shown of a report."""
    machine, bundle, runs = document["machine"], document["bundle"], document["runs"]
    yield f"{bundle['label']}, {human_bytes(bundle['bytes'])}"
    yield f"{machine['cpu']}, {counted(machine['cores'], 'core')}, {' '.join(machine['features'])}"
    for when in ("before", "after"):
        if text := _condition(document[when]):
            yield f"{when}: {text}"
    yield f"{counted(document['captions'], 'caption')} of {counted(document['photos'], 'photo')}, medians in ms:"
    yield ""
    yield from table([HEADER, *map(_cells, runs)], "<<" + ">" * (len(HEADER) - 2))
    yield ""
    for run in runs:
        yield _energy(run)


HEADER = (
    "library", "graphs", "threads", "beam", "preprocess", "encoder", "step", "search", "total", "p90", "p99",
    "images/s", "cold start", "memory",
)  # fmt: skip


def _cells(run: Mapping[str, Any]) -> list[str]:
    latency, cold = run["latency"], run["cold_start"]
    medians = [f"{latency[part]['p50']:.1f}" for part in ("preprocess", "encoder")]
    step = f"{latency['steps_per_caption']:.1f} x {latency['step']['p50']:.2f}"
    return [
        run["library"],
        run["precision"],
        str(run["threads"]),
        str(run["beam"]),
        *medians,
        step,
        f"{latency['search']['p50']:.1f}",
        *(f"{latency['total'][name]:.1f}" for name in ("p50", "p90", "p99")),
        f"{latency['images_per_second']:.1f}",
        f"{cold['total_ms']:.0f}",
        "-" if cold["peak_rss_bytes"] is None else human_bytes(cold["peak_rss_bytes"]),
    ]


def _energy(run: Mapping[str, Any]) -> str:
    energy = run["energy"]
    name = f"energy with {counted(run['threads'], 'thread')}"
    if energy is None:
        return f"{name}: not known, {run['energy_problem']}"
    return (
        f"{name}: {energy['value']:.2g} J a caption, give or take {energy['uncertainty']:.1g}, by {energy['method']} "
        f"({energy['scope']}; {energy['idle_W']:.1f} W idle)"
    )


def _condition(condition: Mapping[str, Any]) -> str:
    parts = []
    if condition["governor"]:
        parts.append(f"governor {condition['governor']}")
    if condition["megahertz"]:
        parts.append(f"{condition['megahertz']} MHz")
    if condition["temperature"] is not None:
        parts.append(f"{condition['temperature']:.0f} degrees Celsius")
    if condition["throttled"]:
        parts.append(", ".join(condition["throttled"]))
    return ", ".join(parts)
