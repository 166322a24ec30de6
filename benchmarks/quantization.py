"""What was tried to keep the captions of INT8 graphs, and what each attempt gave: a table, written by this script.

python -m edgecap.benchmarks.quantization models/plus/checkpoint.safetensors --data flickr8k/
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.benchmarks.graph_sets import GraphSets, compressions
from edgecap.benchmarks.report import write_report
from edgecap.data.karpathy import CaptionDataset, load_dataset
from edgecap.data.mixture import Mixture
from edgecap.export.compress.calibration import from_datasets
from edgecap.export.proof.caption_gate import caption_photos, compare
from edgecap.export.proof.set_result import SetResult
from edgecap.export.recipe import ExportRecipe
from edgecap.export.variant import Compression
from edgecap.metrics.split import protocol_of, protocol_text
from edgecap.runtime.bundle.entries import ENGINES, PRECISIONS, set_name
from edgecap.runtime.engines.engine import Engine
from edgecap.runtime.machine.threads import default_threads

REPORT = Path(__file__).with_name("QUANTIZATION.md")
PLAIN = {"error_feedback": False, "bias_correction": False}


@dataclass(frozen=True)
class Attempt:
    """Fields of the recipe's INT8 that an attempt changes, and the precision of each graph."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    encoder: str = "int8"
    step: str = "int8"
    engines: tuple[str, ...] = ENGINES


RECIPE = Attempt("both: the recipe")
# In the order of their cost. The two calibrations are ONNX Runtime's, and keep every activation in memory.
ATTEMPTS = (
    Attempt("per-channel weights, minmax ranges", PLAIN),
    Attempt("percentile ranges, 64 photos", {**PLAIN, "calibration_method": "percentile"}, engines=("onnx",)),
    Attempt("entropy ranges, 64 photos", {**PLAIN, "calibration_method": "entropy"}, engines=("onnx",)),
    Attempt("bias correction", {"error_feedback": False}),
    Attempt("error feedback", {"bias_correction": False}),
    Attempt("both, pairs that may saturate", {"pair_limit": False}, engines=("onnx",)),
    RECIPE,
    Attempt("both, fp32 encoder", encoder="fp32"),
    Attempt("both, fp32 step", step="fp32"),
)
FEW_PHOTOS = 64


class Campaign:
    """One checkpoint and its fp32 graphs."""

    def __init__(self, checkpoint: Path, dataset: CaptionDataset, folder: Path) -> None:
        loaded = load_checkpoint(checkpoint)
        self.dataset, self.photos = dataset, dataset.split("val")
        self.vocabulary = loaded.vocabulary
        self.calibration = from_datasets(Mixture.of(dataset), ExportRecipe())
        self.sets = GraphSets(loaded, self.calibration, folder)
        self.preprocess, self.options = self.sets.preprocess, self.sets.options

    @cached_property
    def fp32(self) -> dict[str, Any]:
        """Captions of val by the fp32 graphs of each engine."""
        plain = Compression()
        return self._captions(
            {set_name(name, "fp32"): self._engine(name, self.sets.make(name, plain, plain)) for name in ENGINES}
        )

    def results(self, attempt: Attempt) -> Iterator[tuple[str, SetResult]]:
        """For each engine of the attempt, scores and differences as in a bundle's ``eval.json``."""
        how = {**compressions(PRECISIONS), "int8": replace(self.sets.recipe.int8, **attempt.changes)}
        few = self.calibration.first(FEW_PHOTOS) if how["int8"].calibration_method != "minmax" else None
        click.echo(f"== {attempt.name}", err=True)
        made = {
            set_name(name, "int8"): self._engine(
                name, self.sets.make(name, how[attempt.encoder], how[attempt.step], few)
            )
            for name in attempt.engines
        }
        captions = {**self.fp32, **self._captions(made)}
        compared = compare(captions, self.photos, self.vocabulary, self.sets.recipe.gate)
        yield from ((name, compared[set_name(name, "int8")]) for name in attempt.engines)

    def _captions(self, engines: Mapping[str, Engine]) -> dict[str, Any]:
        return caption_photos(engines, self.photos, self.preprocess, self.vocabulary, self.options)

    def _engine(self, name: str, graphs: dict[str, Path]) -> Engine:
        return self.sets.start(name, graphs, default_threads())


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), envvar="EDGECAP_DATA", required=True)
@click.option("--output", type=click.Path(path_type=Path), default=REPORT, help="Where the table goes.")
@click.option("--attempts", default=None, help="Numbers of the attempts to make, from 1, with commas; all without.")
def main(checkpoint: Path, data: Path, output: Path, attempts: str | None) -> None:
    """Quantize CHECKPOINT in each of the ways that were tried, caption val, and write the table."""
    chosen = [ATTEMPTS[int(number) - 1] for number in attempts.split(",")] if attempts else list(ATTEMPTS)
    with tempfile.TemporaryDirectory(prefix="edgecap-") as folder:
        campaign = Campaign(checkpoint, load_dataset(data), Path(folder))
        rows = [(attempt, *result) for attempt in chosen for result in campaign.results(attempt)]
    protocol = protocol_of(campaign.dataset.name, "val", len(campaign.photos), campaign.options)
    text = (
        f"`python -m edgecap.benchmarks.quantization {checkpoint.name}`, {date.today()}, {platform.machine()}; "
        f"{protocol['dataset']} val, {protocol_text(protocol)}. Each attempt is held against the fp32 graphs of its "
        "engine."
    )
    table = [
        "| attempt | engine | CIDEr-D | change | identical captions | greedy | median first diverging word |",
        "|---|---|---|---|---|---|---|",
        *(_row(attempt.name, engine, result) for attempt, engine, result in rows),
    ]
    write_report(output, "INT8 against fp32: what was tried", text, table)


def _row(name: str, engine: str, result: SetResult) -> str:
    difference = result.difference
    assert difference is not None  # the fp32 graphs are there
    return (
        f"| {name} | {engine} | {100 * result.scores.cider_d:.2f} | {difference.cider_d_change:+.2f} | "
        f"{difference.identical:.1%} | {difference.identical_greedy:.1%} | "
        f"{_median(difference.first_diverging_step)} |"
    )


def _median(counts: Mapping[str, int]) -> str:
    steps = sorted(int(step) for step, count in counts.items() for _ in range(count))
    return str(steps[len(steps) // 2]) if steps else "-"


if __name__ == "__main__":
    main()
