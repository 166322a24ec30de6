"""``edgecap eval``: the metrics of a bundle or a checkpoint on a split."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

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
)
from edgecap.data.karpathy import load_dataset
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

# What is evaluated: the engine, its preprocessing, words and defaults, and its name in the report.
Subject = tuple[Engine, PreprocessConfig, Vocabulary, GenerationConfig, str]


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
    data: Path,
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

    Captions and photos that cannot be used are named, counted and left out.

    Exit status: 0 measured, 1 failed, 2 wrong usage.
    """
    if bundle and checkpoint:
        raise click.UsageError("name a --bundle or a --checkpoint, not both")
    dataset = load_dataset(data, photos, strict=strict, say=fail)
    if shared := dataset.also_in_train(split):
        fail(f"{dataset.source}: {shared}: where a captioner was trained on these, its figures are too good")
    members = dataset.split(split)
    subject, preprocess, vocabulary, generation, name = (
        _checkpoint(checkpoint) if checkpoint else _bundle(bundle, engine, precision, threads)
    )
    options = generation.options(vocabulary, beam=beam, max_length=max_length, length_penalty=length_penalty)
    count = math.ceil(len(members) / EVALUATION_BATCH)
    batches = encoded_photos(subject, members, preprocess)
    with click.progressbar(batches, length=count, label="captioning", file=sys.stderr) as shown:
        hypotheses = decode_batches(subject, shown, vocabulary, options)
    wanted = dict(zip(EXTRA_METRICS, (meteor, spice), strict=True))
    scores = score_split(members, hypotheses, vocabulary, extra=[name for name in EXTRA_METRICS if wanted[name]])
    quality = quality_of_split(members, hypotheses, vocabulary, dataset.splits.get("train", ()))
    report: dict[str, Any] = {
        "subject": name,
        **protocol_of(dataset.name, split, len(members), options),
        "scores": scores.to_json(),
        "quality": quality.to_json(),
    }
    if captions:
        sentences = {photo: vocabulary.sentence(best.token_ids) for photo, best in hypotheses.items()}
        with write_atomically(captions) as partial:
            partial.write_text(json.dumps(sentences, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    click.echo(json_text(report) if as_json else _table(report, quality))


def _bundle(name: str | None, engine: str, precision: str, threads: int | None) -> Subject:
    captioner = load(name, engine=engine, precision=precision, threads=threads)
    for note in captioner.notes:
        fail(note)
    bundle = captioner.bundle
    subject = f"{bundle.manifest.label} {captioner.precision}, {captioner.loaded.name}"
    return captioner.loaded, bundle.preprocess, bundle.vocabulary, bundle.generation, subject


def _checkpoint(path: Path) -> Subject:
    from edgecap.architectures.checkpoint import load_checkpoint
    from edgecap.architectures.defaults import default_generation, preprocess_config
    from edgecap.architectures.torch_engine import TorchEngine

    checkpoint = load_checkpoint(path)
    loaded = TorchEngine(checkpoint.model())
    subject = f"{path}, {loaded.name}"
    vocabulary = checkpoint.vocabulary
    return loaded, preprocess_config(checkpoint.dims), vocabulary, default_generation(vocabulary), subject


def _table(report: dict[str, Any], quality: Quality) -> str:
    protocol = f"{report['dataset']} {report['split']}, {protocol_text(report)}"
    rows = [f"{name:<8} {value:7.2f}" for name, value in report["scores"].items()]
    rows += [f"{name:<18} {figure}" for name, figure in quality.figures.items()]
    return "\n".join([report["subject"], protocol, *rows])


eval = evaluate  # the group looks a command up by its name in the CLI
