"""What each option of the training gives: short trainings that differ in one thing, and a table of their logs.

python -m edgecap.benchmarks.ablations --data flickr8k/ --text sentences.tsv --detector FILE --task-teachers FILE

The logs are kept, so that the table can be written again without training: ``--table-only``.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from edgecap.benchmarks.quantization import RECIPE, Campaign
from edgecap.benchmarks.report import say, write_report
from edgecap.data.karpathy import load_dataset
from edgecap.errors import EdgecapError
from edgecap.training.run import train_run
from edgecap.training.trainer import BEST, LAST

LOGS = Path(__file__).with_name("ablations")
REPORT = Path(__file__).with_name("ABLATIONS.md")

# Of options that name files, the flag that brings the file.
BACKBONE, DETECTOR = {"backbone_weights": "backbone"}, {"backbone_weights": "detector"}
TEXT, TEACHERS = {"language.text": "text"}, {"task_teachers": "task_teachers"}

# Three epochs of words on the features of a frozen backbone that has seen no captions: enough to see an effect of a
# point, in some minutes each. Of two views, one is the photo as it is and one is mirrored; more are random crops.
SHORT = {
    "preset": "tiny",
    "dropout": 0.3,
    "views": 2,
    "frozen.epochs": 3,
    "frozen.learning_rate": 1e-3,
    "end_to_end.epochs": 0,
}
CROPS = {**SHORT, "views": 4}
# ShuffleNetV2 from weights of a detector, whose BatchNorm statistics are not of photos.
RECALIBRATED = {**SHORT, "recalibrate_batchnorm": True}
TUNED = {
    **RECALIBRATED,
    "frozen.epochs": 0,
    "end_to_end.epochs": 2,
    "end_to_end.learning_rate": 8e-4,
    "end_to_end.backbone_learning_rate": 8e-4,
}


@dataclass(frozen=True)
class Ablation:
    """A short training, named as its log; ``against`` is the one that lacks just what this one has."""

    name: str
    title: str
    options: Mapping[str, Any]
    against: str = ""
    files: Mapping[str, str] = field(default_factory=lambda: BACKBONE)  # options and the flags that name their files
    int8: bool = False  # also quantized
    until: str = ""  # the last commit that had its option, where that lost and is no more


def _changed(
    name: str, title: str, changes: Mapping[str, Any], files: Mapping[str, str] | None = None, until: str = ""
) -> Ablation:
    return Ablation(name, title, {**SHORT, **changes}, "baseline", {**BACKBONE, **(files or {})}, until=until)


ABLATIONS = (
    Ablation("baseline", "`tiny`, frozen backbone of `base`, 3 epochs of words", SHORT),
    _changed("seed", "another seed: what is noise", {"seed": 2}),
    _changed("label_smoothing", "label smoothing 0.1", {"label_smoothing": 0.1}),
    _changed("scheduled_sampling", "scheduled sampling, up to 0.25", {"scheduled_sampling": 0.25}, until="8e08951"),
    _changed("attention_penalty", "doubly stochastic attention, weight 1", {"attention_penalty": 1.0}, until="8e08951"),
    _changed("ema", "averaged weights, decay 0.99", {"ema": 0.99}),
    _changed("one_view", "no photo mirrored", {"views": 1}),
    _changed("crops", "random crops as well", CROPS),
    Ablation("keep_aspect", "those, the aspect kept", {**CROPS, "keep_aspect": True}, "crops"),
    _changed("longer", "6 epochs instead of 3", {"frozen.epochs": 6}),
    _changed("language", "language pretraining, 1 epoch", {"language.epochs": 1}, TEXT),
    _changed("self_critical", "rewards, 2 epochs", {"self_critical.epochs": 2, "self_critical.learning_rate": 5e-5}),
    _changed("task_teacher", "word distributions of `large`", {}, TEACHERS),
    Ablation("detector", "`tiny`, frozen backbone of a detector", SHORT, files=DETECTOR),
    Ablation("recalibrated", "its BatchNorm recalibrated", RECALIBRATED, "detector", DETECTOR),
    Ablation("relu", "that end to end, 2 epochs, ReLU", TUNED, files=DETECTOR, int8=True),
    Ablation("leaky_relu", "LeakyReLU", {**TUNED, "activation": "leaky_relu"}, "relu", DETECTOR, int8=True),
)


class Laboratory:
    """Trains what has no log yet; the runs share their cached features."""

    def __init__(self, data: Path, output: Path, given: Mapping[str, str | None]) -> None:
        self.dataset, self.output = load_dataset(data), output
        self.given = {name: value for name, value in given.items() if value}

    def make(self, ablation: Ablation) -> None:
        """Train, and write the log."""
        if ablation.until:
            say(f"{ablation.name}: left out, for its option is no more: check out the commit {ablation.until}")
            return
        if missing := [flag for flag in ablation.files.values() if flag not in self.given]:
            say(f"{ablation.name}: left out, for nothing is given as {missing[0]}")
            return
        say(f"== {ablation.name}: {ablation.title}")
        folder = self.output / ablation.name
        folder.mkdir(parents=True, exist_ok=True)
        (self.output / "cache").mkdir(exist_ok=True)
        if not (folder / "cache").exists():
            (folder / "cache").symlink_to(Path("..") / "cache")
        overrides = {**ablation.options, **{name: self.given[flag] for name, flag in ablation.files.items()}}
        resume = (folder / LAST).exists()
        train_run(self.dataset, folder, overrides=overrides, resume=resume, say=say)
        log = {"options": ablation.options, "validations": list(_validations(folder / "log.csv"))}
        if ablation.int8:
            with tempfile.TemporaryDirectory(prefix="edgecap-") as graphs:
                results = Campaign(folder / BEST, self.dataset, Path(graphs)).results(RECIPE)
                log["int8"] = {engine: result.to_json() for engine, result in results}
        LOGS.mkdir(exist_ok=True)
        _log_path(ablation).write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")


def _validations(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["val_cider_d"] or row["val_loss"]:
                yield {name: value for name, value in row.items() if value}


def _log_path(ablation: Ablation) -> Path:
    return LOGS / f"{ablation.name}.json"


def table() -> list[str]:
    """Markdown rows of all ablations that have a log: the last validation of each, not its best."""
    logs = {a.name: json.loads(_log_path(a).read_bytes()) for a in ABLATIONS if _log_path(a).exists()}
    last = {name: log["validations"][-1] for name, log in logs.items()}
    rows = ["| training | CIDEr-D | BLEU-4 | change of CIDEr-D | against |", "|---|---|---|---|---|"]
    for ablation in ABLATIONS:
        if ablation.name not in last or (ablation.against and ablation.against not in last):
            continue
        cider_d, bleu_4 = (float(last[ablation.name][f"val_{metric}"]) for metric in ("cider_d", "bleu_4"))
        change = "| - | - |"
        if ablation.against:
            change = f"| {cider_d - float(last[ablation.against]['val_cider_d']):+.2f} | {ablation.against} |"
        rows.append(f"| {ablation.title} | {cider_d:.2f} | {bleu_4:.2f} {change}")
    int8 = []
    for ablation in ABLATIONS:
        for engine, scores in logs.get(ablation.name, {}).get("int8", {}).items():
            figures = f"{scores['CIDEr-D']:.2f} | {scores['CIDEr-D change']:+.2f} | {scores['identical captions']:.1%}"
            int8.append(f"| {ablation.title} | {engine} | {figures} |")
    head = [
        "",
        "| quantized | engine | CIDEr-D of INT8 | change from fp32 | identical captions |",
        "|---|---|---|---|---|",
    ]
    return [*rows, *head, *int8] if int8 else rows


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGECAP_DATA", help="The dataset, with its photos.")
@click.option(
    "--backbone", default="models/base/encoder.safetensors", show_default=True, help="Weights of a ShuffleNetV2."
)
@click.option("--detector", help="Weights of a detector's ShuffleNetV2.")
@click.option("--text", help="Sentences for language pretraining.")
@click.option("--task-teachers", help="Checkpoints of captioners of the preset `large`, with commas.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/ablations"), show_default=True)
@click.option("--only", help="Names of ablations, with commas, instead of all that have no log yet.")
@click.option("--table-only", is_flag=True, help="Train nothing: write the table of the logs that are there.")
def main(data: Path | None, output: Path, only: str | None, table_only: bool, **given: str | None) -> None:
    """Train each ablation that has no log yet, and write the table."""
    if not table_only:
        if data is None:
            raise click.UsageError("name the --data, or write the --table-only")
        laboratory = Laboratory(data, output, given)
        for ablation in ABLATIONS:
            if ablation.name in only.split(",") if only else not _log_path(ablation).exists():
                try:
                    laboratory.make(ablation)
                except EdgecapError as error:
                    raise click.ClickException(str(error)) from error
    protocol = (
        "`python -m edgecap.benchmarks.ablations`, from the logs beside it. Flickr8k val, 1,000 photos, beam 5, fp32, "
        "free-running, after the last epoch of each training. These are short trainings that rank options; the "
        "models' own logs tell what their longer ones gave."
    )
    write_report(REPORT, "What each option of the training gives", protocol, table())


if __name__ == "__main__":
    main()
