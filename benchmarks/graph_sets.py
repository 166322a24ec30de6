"""The graphs of one checkpoint, made as the exporter makes them, for benchmarks that time or compare them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from edgecap.architectures.checkpoint import Checkpoint
from edgecap.architectures.defaults import default_generation, preprocess_config
from edgecap.architectures.registry import architecture
from edgecap.export.compress.calibration import CalibrationSet
from edgecap.export.graphs.ingredients import Ingredients, graph_entry
from edgecap.export.graphs.making import make, make_fp32
from edgecap.export.recipe import ExportRecipe
from edgecap.export.variant import Compression, Variant
from edgecap.runtime.bundle.bundle import Graph
from edgecap.runtime.engines.engine import Engine
from edgecap.runtime.engines.starting import start


class GraphSets:
    """Makes sets in folders of their own; the fp32 graphs and what they are measured on are made once."""

    def __init__(self, checkpoint: Checkpoint, calibration: CalibrationSet, folder: Path) -> None:
        self.calibration, self.folder = calibration, folder
        self.recipe = ExportRecipe()
        self.preprocess = preprocess_config(checkpoint.dims)
        self.options = default_generation(checkpoint.vocabulary).options(checkpoint.vocabulary)
        kind = architecture(checkpoint.architecture)
        self.network = kind.prepared(checkpoint.model())
        self.specs = kind.graphs(self.network, self._photos)
        fp32 = make_fp32(self.specs, folder, self.recipe.opset)
        rounding = self.recipe.rounding_photos
        self.ingredients = Ingredients(
            self.specs, fp32, calibration, self.preprocess, checkpoint.vocabulary, self.options, rounding
        )

    def _photos(self) -> Iterator[Tensor]:
        yield from map(torch.from_numpy, self.calibration.tensors(self.preprocess))

    def make(
        self, engine: str, encoder: Compression, step: Compression, calibration: CalibrationSet | None = None
    ) -> dict[str, Path]:
        """The graphs of a set, by role; other photos for its ranges than the usual ones may be given."""
        variant = Variant(engine, "made", {"encoder": encoder, "decoder_step": step})
        ingredients = replace(self.ingredients, calibration=calibration) if calibration else self.ingredients
        folder = self.folder / f"{engine}-{abs(hash((encoder, step, calibration)))}"
        folder.mkdir(exist_ok=True)
        if engine == "onnx":
            for role, path in self.ingredients.fp32.items():
                target = folder / f"{role}.fp32.onnx"
                if not target.exists():
                    target.hardlink_to(path)
        return make(self.specs, variant, ingredients, folder)

    def start(self, engine: str, graphs: dict[str, Path], threads: int) -> Engine:
        """A set in its engine."""
        return start({role: _graph(path, engine) for role, path in graphs.items()}, threads, "the graphs")


def _graph(path: Path, engine: str) -> Graph:
    precision = path.name.split(".")[1]
    return Graph(path.read_bytes(), graph_entry(path, engine, precision))


def compressions(precisions: Iterable[str]) -> dict[str, Compression]:
    """How the recipe compresses to each of these."""
    return {name: ExportRecipe().int8 if name == "int8" else Compression(name) for name in precisions}
