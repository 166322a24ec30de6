"""``edgecap eval``: the metrics of a bundle or a checkpoint on a split."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from edgecap.cli import fail, json_text
from edgecap.cli.options import (
    beam_option,
    bundle_option,
    data_option,
    engine_option,
    length_penalty_option,
    max_length_option,
    photos_option,
    precision_option,
    strict_option,
    threads_option,
    with_photos,
)
from edgecap.data.mixture import DataSource, Part, load_mixture
from edgecap.metrics import EXTRA_METRICS, Quality
from edgecap.metrics.split import (
    EVALUATION_BATCH,
    decode_batches,
    encoded_photos,
    protocol_of,
    protocol_text,
    quality_of_split,
    score_split,
)
from edgecap.runtime import load
from edgecap.runtime.bundle.generation import GenerationConfig
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.engines.engine import Engine
from edgecap.runtime.machine.atomic_write import write_atomically
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.runtime.search.decoding import DecodingOptions


class Subject(NamedTuple):
    """What is evaluated, and its name in the report."""

    engine: Engine
    preprocess: PreprocessConfig
    vocabulary: Vocabulary
    generation: GenerationConfig
    name: str


@click.command(name="eval")
@data_option
@photos_option
@strict_option
@bundle_option
@click.option("--checkpoint", type=click.Path(path_type=Path), help="A checkpoint instead (extra train).")
@click.option("--split", default="val", show_default=True)
@beam_option
@max_length_option
@length_penalty_option
@engine_option
@precision_option
@threads_option
@click.option("--meteor", is_flag=True, help="Add METEOR (extra eval-java).")
@click.option("--spice", is_flag=True, help="Add SPICE (extra eval-java).")
@click.option("--captions", type=click.Path(path_type=Path), help="Write the captions to this JSON file.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object.")
def evaluate(
    data: tuple[DataSource, ...],
    photos: Path | None,
    strict: bool,
    bundle: str | None,
    checkpoint: Path | None,
    split: str,
    beam: int | None,
    max_length: int | None,
    length_penalty: float | None,
    engine: str,
    precision: str,
    threads: int | None,
    meteor: bool,
    spice: bool,
    captions: Path | None,
    as_json: bool,
) -> None:
    """Caption every photo of a split, freely decoded, and score the captions against its references.

    BLEU-1 to 4, ROUGE-L and CIDEr-D on Karpathy's tokens, x 100, equal to pycocoevalcap's.

    Then what these do not tell: how many captions and words are distinct, how many captions stand word for word in the
    train split (if the dataset has one), and in how many a person, animal or colour is wrong by lists of words, among
    those that name one on which the references agree.

    Captions and photos that cannot be used are named, counted and left out. Of several datasets each has its own
    figures, which the table ends with the mean of, and with --json a line of its own.

    Exit status: 0 measured, 1 failed, 2 wrong usage.
    """
    if bundle and checkpoint:
        raise click.UsageError("name a --bundle or a --checkpoint, not both")
    parts = load_mixture(with_photos(data, photos), strict=strict, say=fail).parts
    for part in parts:
        if shared := part.dataset.also_in_train(split):
            fail(f"{part.dataset.source}: {shared}: where a captioner was trained on these, its figures are too good")
        part.dataset.split(split)  # what is missing is said before anything is captioned
    subject = _checkpoint(checkpoint) if checkpoint else _bundle(bundle, engine, precision, threads)
    options = subject.generation.options(
        subject.vocabulary, beam=beam, max_length=max_length, length_penalty=length_penalty
    )
    wanted = dict(zip(EXTRA_METRICS, (meteor, spice), strict=True))
    extra = [name for name in EXTRA_METRICS if wanted[name]]
    sentences: dict[str, str] = {}
    if not as_json:
        click.echo(subject.name)
    scores = []
    for part in parts:
        report, quality, said = _evaluated(subject, part, split, options, extra)
        scores.append(report["scores"])
        sentences |= {photo if len(parts) == 1 else f"{part.name}/{photo}": text for photo, text in said.items()}
        click.echo(json_text(report) if as_json else _table(report, quality))
    if len(parts) > 1 and not as_json:
        means = {name: sum(figures[name] for figures in scores) / len(scores) for name in scores[0]}
        click.echo("\n".join([f"mean of {len(parts)} datasets", *_rows(means)]))
    if captions:
        with write_atomically(captions) as partial:
            partial.write_text(json.dumps(sentences, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _evaluated(
    subject: Subject, part: Part, split: str, options: DecodingOptions, extra: Sequence[str]
) -> tuple[dict[str, Any], Quality, dict[str, str]]:
    """The report of a dataset, what scores do not tell, and the sentence of each photo."""
    members, vocabulary = part.dataset.split(split), subject.vocabulary
    count = math.ceil(len(members) / EVALUATION_BATCH)
    batches = encoded_photos(subject.engine, members, subject.preprocess)
    with click.progressbar(batches, length=count, label="captioning", file=sys.stderr) as shown:
        hypotheses = decode_batches(subject.engine, shown, vocabulary, options)
    scores = score_split(members, hypotheses, vocabulary, extra=extra)
    quality = quality_of_split(members, hypotheses, vocabulary, part.dataset.splits.get("train", ()))
    report = {
        "subject": subject.name,
        **protocol_of(part.name, split, len(members), options),
        "scores": scores.to_json(),
        "quality": quality.to_json(),
    }
    return report, quality, {photo: vocabulary.sentence(best.token_ids) for photo, best in hypotheses.items()}


def _bundle(name: str | None, engine: str, precision: str, threads: int | None) -> Subject:
    captioner = load(name, engine=engine, precision=precision, threads=threads)
    for note in captioner.notes:
        fail(note)
    bundle = captioner.bundle
    subject = f"{bundle.manifest.label} {captioner.precision}, {captioner.loaded.name}"
    return Subject(captioner.loaded, bundle.preprocess, bundle.vocabulary, bundle.generation, subject)


def _checkpoint(path: Path) -> Subject:
    from edgecap.architectures.checkpoint import load_checkpoint
    from edgecap.architectures.defaults import default_generation, preprocess_config
    from edgecap.architectures.torch_engine import TorchEngine

    checkpoint = load_checkpoint(path)
    loaded = TorchEngine(checkpoint.model())
    subject = f"{path}, {loaded.name}"
    vocabulary = checkpoint.vocabulary
    return Subject(loaded, preprocess_config(checkpoint.dims), vocabulary, default_generation(vocabulary), subject)


def _table(report: dict[str, Any], quality: Quality) -> str:
    protocol = f"{report['dataset']} {report['split']}, {protocol_text(report)}"
    figures = [f"{name:<18} {figure}" for name, figure in quality.figures.items()]
    return "\n".join([protocol, *_rows(report["scores"]), *figures])


def _rows(scores: Mapping[str, float]) -> list[str]:
    return [f"{name:<8} {value:7.2f}" for name, value in scores.items()]


eval = evaluate  # the group looks a command up by its name in the CLI
