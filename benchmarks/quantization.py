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
from edgecap.export.graphs.maker import GraphMaker

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.architectures.defaults import default_generation, preprocess_config
from edgecap.architectures.lstm.rewrites.bias_folding import fold_projection_bias
from edgecap.benchmarks.report import say, write_report
from edgecap.data.karpathy import CaptionDataset, load_dataset
from edgecap.export.compress.calibration import from_dataset
from edgecap.export.proof.caption_gate import caption_photos, compare
from edgecap.export.recipe import ExportRecipe
from edgecap.metrics.split import protocol_of, protocol_text
from edgecap.runtime.bundle.entries import set_name
from edgecap.runtime.bundle.manifest import RUNTIMES
from edgecap.runtime.engines import libraries
from edgecap.runtime.engines.engine import Backend
from edgecap.runtime.loading import default_threads
from edgecap.runtime.search.decoding import DecodingOptions

REPORT = Path(__file__).with_name("QUANTIZATION.md")
PLAIN = {"error_feedback": False, "bias_correction": False}


@dataclass(frozen=True)
class Attempt:
    """Fields of the recipe that an attempt changes, and the precision of each graph."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    encoder: str = "int8"
    step: str = "int8"
    runtimes: tuple[str, ...] = RUNTIMES


RECIPE = Attempt("both: the recipe")
# In the order of their cost. The two calibrations are ONNX Runtime's, and keep every activation in memory.
ATTEMPTS = (
    Attempt("per-channel weights, minmax ranges", PLAIN),
    Attempt("percentile ranges, 64 photos", {**PLAIN, "calibration_method": "percentile"}, runtimes=("onnx",)),
    Attempt("entropy ranges, 64 photos", {**PLAIN, "calibration_method": "entropy"}, runtimes=("onnx",)),
    Attempt("bias correction", {"error_feedback": False}),
    Attempt("error feedback", {"bias_correction": False}),
    Attempt("both, pairs that may saturate", {"pair_limit": False}, runtimes=("onnx",)),
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
        self.vocabulary, self.preprocess = loaded.vocabulary, preprocess_config(loaded.dims)
        self.options: DecodingOptions = default_generation(self.vocabulary).options(self.vocabulary)
        recipe = ExportRecipe(precisions=("fp32", "int8"))
        self.maker = GraphMaker(
            fold_projection_bias(loaded.model()),
            recipe,
            from_dataset(dataset, recipe),
            self.preprocess,
            self.vocabulary,
            self.options,
            folder,
            say,
        )
        self.recipe, self.calibration = recipe, self.maker.calibration
        self.maker.make_fp32()

    @cached_property
    def fp32(self) -> dict[str, Any]:
        """Captions of val by the fp32 graphs of each engine."""
        reference = {set_name(runtime, "fp32"): self._backend(runtime, "fp32", "fp32") for runtime in RUNTIMES}
        return self._captions(reference)

    def results(self, attempt: Attempt) -> Iterator[tuple[str, dict[str, Any]]]:
        """For each runtime of the attempt, scores and differences as in a bundle's ``eval.json``."""
        recipe = replace(self.recipe, runtimes=attempt.runtimes, **attempt.changes)
        assert self.calibration is not None
        few = recipe.calibration_method != "minmax"
        self.maker.recipe = recipe
        self.maker.calibration = self.calibration.first(FEW_PHOTOS) if few else self.calibration
        click.echo(f"== {attempt.name}", err=True)
        self.maker.make_int8()
        backends = {
            set_name(runtime, "int8"): self._backend(runtime, attempt.encoder, attempt.step)
            for runtime in attempt.runtimes
        }
        compared = compare({**self.fp32, **self._captions(backends)}, self.photos, self.vocabulary, recipe.gate)
        yield from ((runtime, compared[set_name(runtime, "int8")]) for runtime in attempt.runtimes)

    def _captions(self, backends: Mapping[str, Backend]) -> dict[str, Any]:
        return caption_photos(backends, self.photos, self.preprocess, self.vocabulary, self.options)

    def _backend(self, runtime: str, encoder: str, step: str) -> Backend:
        graphs = [self.maker.path(*graph).read_bytes() for graph in self._graphs(runtime, encoder, step)]
        return libraries.start(runtime, graphs[0], graphs[1], default_threads(), "the graphs")

    def _graphs(self, runtime: str, encoder: str, step: str) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
        return ("encoder", runtime, encoder), ("decoder_step", runtime, step)


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
        *(_row(attempt.name, runtime, scores) for attempt, runtime, scores in rows),
    ]
    write_report(output, "INT8 against fp32: what was tried", text, table)


def _row(name: str, runtime: str, scores: Mapping[str, Any]) -> str:
    return (
        f"| {name} | {runtime} | {scores['CIDEr-D']:.2f} | {scores['CIDEr-D change']:+.2f} | "
        f"{scores['identical captions']:.1%} | {scores['identical greedy captions']:.1%} | "
        f"{_median(scores['first diverging step'])} |"
    )


def _median(counts: Mapping[str, int]) -> str:
    steps = sorted(int(step) for step, count in counts.items() for _ in range(count))
    return str(steps[len(steps) // 2]) if steps else "-"


if __name__ == "__main__":
    main()
