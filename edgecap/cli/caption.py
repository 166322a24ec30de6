"""``edgecap caption``: photos in, one line each out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from edgecap.cli import json_text
from edgecap.cli.options import (
    batch_size_option,
    beam_option,
    bundle_option,
    engine_option,
    length_penalty_option,
    max_length_option,
    precision_option,
    threads_option,
)
from edgecap.cli.photo_answers import answer, requested, tell_notes
from edgecap.runtime import Caption, Deadline, load
from edgecap.runtime.answer import check_min_confidence, record, said
from edgecap.runtime.bundle.generation import MAX_BEAM
from edgecap.runtime.caption import Prepared


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@beam_option
@max_length_option
@length_penalty_option
@bundle_option
@engine_option
@precision_option
@threads_option
@batch_size_option
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Print 'not sure' for captions that are right with a lower probability than P.",
)
@click.option(
    "--max-ms",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Have each caption ready N milliseconds after its photo began to be read, with the best words so far.",
)
@click.option(
    "--n-best",
    type=click.IntRange(1, MAX_BEAM),
    metavar="N",
    help="Print the N best captions, a line each, best first; no more than --beam.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def caption(
    images: tuple[str, ...],
    beam: int | None,
    max_length: int | None,
    length_penalty: float | None,
    bundle: str | None,
    engine: str,
    precision: str,
    threads: int | None,
    batch_size: int,
    min_confidence: float | None,
    max_ms: float | None,
    n_best: int | None,
    as_json: bool,
) -> None:
    """Describe photos, in one line each: "path: caption", or only the caption when one photo is asked for.

    IMAGE is a file, a directory (its photos, sorted, without subdirectories), or - for a photo on stdin.
    Options that are not given follow the bundle.

    Photos are known by what they hold, whatever their names. A photo that cannot be read is named on stderr, and the
    others are captioned all the same. What else a directory holds is counted there in one line, but for hidden files,
    with what to do about formats that are not read. A JPEG that was cut short is captioned where three quarters of its
    rows are there, named on stderr, and "damaged" in --json. What is no photo, but one colour, noise, a flat drawing or
    a strip thinner than 1:8, is "not a photo".

    Whether the graphs do here what they did where they were exported is found out once for each machine, bundle and
    version of the engine, after the first caption, and kept in the user's cache; if not, a line on stderr says so.

    With --json, captions are {"path", "caption", "reason", "confidence", "log_prob", "tokens", "truncated", "damaged",
    "timings_ms", "bundle", "engine", "library", "precision"}, and photos that failed {"path", "error"}. What is no
    photo has null for "caption" and "log_prob", and what it is in "reason", which is null beside a caption. With
    --min-confidence, captions that fall below it stay, and each has "sure", true or false. With --n-best, each has
    "n_best", a list of {"text", "log_prob", "tokens"}, best first.

    Confidence is the probability that a caption is right: that it names no wrong person, animal or colour, and that
    people who describe the photo use three in five of its words. It was calibrated for the bundle's default beam on
    photos of a val split, and holds for photos like these; null where the bundle was exported without --data.

    "truncated" says that a caption was cut before its end: at --max-length, or at fewer words by --max-ms, and then
    without a confidence, so that it is never sure. --max-ms counts for each photo from where it begins to be read, for
    the photos of a batch together from where the first of them does, and for one on stdin from where it has arrived; no
    word is begun that would end too late if it took as long as the last. The photo, the encoder and one word take
    their time in any case. Fewer than three words are "not sure", and "caption" is null.

    \b
    Exit status:
      0    every photo was captioned, or is none
      1    some photos, or the bundle, could not be read
      2    wrong usage, such as a bundle that makes no captions
      130  interrupted
    """
    asked = requested(images)
    with load(bundle, engine=engine, precision=precision, threads=threads) as captioner:
        tell_notes(captioner, engine, precision)
        choices = {"beam": beam, "max_length": max_length, "length_penalty": length_penalty, "n_best": n_best}
        options: dict[str, Any] = {name: value for name, value in choices.items() if value is not None}
        captioner.options(**options)  # an option that cannot work is found before the first photo is read
        check_min_confidence(captioner, min_confidence)
        if max_ms is not None:
            Deadline(max_ms)  # likewise

        def begin() -> Callable[[Sequence[Prepared]], Sequence[Caption]]:
            deadline = None if max_ms is None else Deadline(max_ms)
            return lambda photos: captioner.caption_batch(photos, max_ms=deadline, **options)

        def lines(path: str, result: Caption | str) -> Iterable[str]:
            if as_json:
                return [json_text({"path": path, **record(captioner, result, min_confidence, n_best is not None)})]
            if isinstance(result, str):
                return []
            return [asked.line(path, text) for text in said(result, min_confidence)]

        answer(captioner, asked, batch_size, begin, lines)
