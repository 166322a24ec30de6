"""From a checkpoint to a bundle: graphs, parity, figures, and the files put in place at once."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgecap.architectures.checkpoint import Checkpoint, load_checkpoint
from edgecap.architectures.defaults import default_generation, preprocess_config
from edgecap.architectures.graph_spec import GraphSpec
from edgecap.architectures.registry import architecture, presets
from edgecap.architectures.torch_engine import TorchEngine
from edgecap.data.mixture import Mixture
from edgecap.errors import CheckpointError, ExportError
from edgecap.export.card import model_card
from edgecap.export.compress.calibration import CalibrationSet
from edgecap.export.graphs.cost import graph_facts
from edgecap.export.graphs.ingredients import Ingredients, graph_entry
from edgecap.export.graphs.making import layer_noise, make, make_fp32
from edgecap.export.graphs.tflite import require_converter
from edgecap.export.proof import golden_photo
from edgecap.export.proof.caption_gate import REFERENCE, caption_photos, compare
from edgecap.export.proof.confidence_fit import calibrate
from edgecap.export.proof.parity import Parity, check_parity
from edgecap.export.proof.set_result import SetResult
from edgecap.export.recipe import ExportRecipe
from edgecap.export.variant import Variant
from edgecap.export.writer import BundleWriter
from edgecap.interrupt import StopRequest
from edgecap.metrics.split import protocol_of
from edgecap.runtime.bundle.bundle import Bundle, Graph
from edgecap.runtime.bundle.confidence import Confidence
from edgecap.runtime.bundle.entries import GraphSet, set_name
from edgecap.runtime.engines.engine import Engine, FloatArray
from edgecap.runtime.engines.starting import start
from edgecap.runtime.machine.threads import default_threads
from edgecap.runtime.photo.preprocess import to_tensor
from edgecap.runtime.verify.record import golden_record, tensor_digest
from edgecap.runtime.wording import counted

ENGINE_NAMES = {"onnx": "ONNX", "tflite": "TFLite"}  # of formats, in lines of progress


@dataclass(frozen=True)
class ExportRequest:
    """What to export, where to, and what to measure it on."""

    checkpoint: Path
    target: Path
    recipe: ExportRecipe
    name: str | None = None  # of the bundle; the preset's without one
    preset: str | None = None  # that the checkpoint must have
    calibration: CalibrationSet | None = None
    evaluate_on: Mixture | None = None  # the val splits of its datasets
    notes: str = ""  # of the model card


def export_bundle(request: ExportRequest, say: Callable[[str], None]) -> Bundle:
    """Make the bundle. Raises ``CheckpointError``, ``ExportError``, ``BundleError``, ``DataError``, ``ImageError``.

    ``say`` gets a line a stage. Whatever fails, ``target`` stays as it was.
    """
    if "int8" in request.recipe.precisions:
        if request.calibration is None:
            problem = "no photos were given: name some with --data or --calibration"
            raise ExportError("calibration", "encoder.int8", problem)
        request.calibration.require_enough()
    if "tflite" in request.recipe.engines:
        require_converter()
    if request.evaluate_on is not None:
        request.evaluate_on.check_held_out()
        request.evaluate_on.split("val")  # whatever it lacks is said now, not when all graphs are made
    checkpoint = load_checkpoint(request.checkpoint, preset=request.preset)
    preset = checkpoint.dims.preset
    if preset not in presets():
        known = ", ".join(presets())
        raise CheckpointError(request.checkpoint, f"is of the unknown preset {preset!r} (known: {known})")
    with StopRequest(at_once=True) as stop, BundleWriter(request.target) as writer:

        def stage(line: str) -> None:
            stop.check()  # an interrupt has been seen to vanish inside a library
            say(line)

        return _Export(request, checkpoint, writer, stage).run()


class _Export:
    """One export under way: graphs in the writer's scratch folder, then figures, then the files of the bundle."""

    def __init__(
        self, request: ExportRequest, checkpoint: Checkpoint, writer: BundleWriter, say: Callable[[str], None]
    ) -> None:
        self.request, self.checkpoint, self.writer, self.say = request, checkpoint, writer, say
        self.recipe = request.recipe
        self.architecture = architecture(checkpoint.architecture)
        self.vocabulary = checkpoint.vocabulary
        self.preprocess = preprocess_config(checkpoint.dims)
        self.generation = default_generation(checkpoint.vocabulary)
        self.options = self.generation.options(self.vocabulary)

    def run(self) -> Bundle:
        self.say("fp32 ONNX graphs")
        network = self.architecture.prepared(self.checkpoint.model())
        specs = self.architecture.graphs(network, self._photos)
        fp32 = make_fp32(specs, self.writer.scratch, self.recipe.opset)
        rounding_photos = self.recipe.rounding_photos
        ingredients = Ingredients(
            specs, fp32, self.request.calibration, self.preprocess, self.vocabulary, self.options, rounding_photos
        )
        roles = [spec.role for spec in specs]
        carried = self.recipe.variants(roles)
        # The fp32 sets are always made, and first: the others are made from them, and measured against them.
        measured = self.recipe.variants(roles, ["fp32"]) + [one for one in carried if one.precision != "fp32"]
        made = {variant.name: self._make(specs, variant, ingredients) for variant in measured}
        engines = {variant.name: self._start(variant, made[variant.name]) for variant in measured}
        images = self._parity_images()
        evaluation = {
            "checkpoint_sha256": hashlib.sha256(self.request.checkpoint.read_bytes()).hexdigest(),
            "bytes": {name: sum(path.stat().st_size for path in paths.values()) for name, paths in made.items()},
            "parity": [row.to_json() for row in self._parity(TorchEngine(network), measured, engines, images)],
            "layer_noise": self._layer_noise(specs, carried, made, ingredients),
        }
        protocol, results, confidence = self._on_val(carried, engines)
        if results:
            evaluation |= {"protocol": protocol, "results": {name: one.to_json() for name, one in results.items()}}
        record = self._golden(carried, engines, images[:1])
        self.say("writing the bundle")
        self._add_graphs(carried, made, results)
        self.writer.add_bytes(f"golden/{golden_photo.PHOTO}", "golden", golden_photo.golden_photo())
        self.writer.add_json("golden/golden.json", "golden", record)
        self._add_documents(evaluation, results, confidence)
        dims, kind = self.checkpoint.dims, self.architecture
        name = self.request.name or dims.preset
        return self.writer.finish(name, kind.task, kind.name, dims.preset, kind.bundle_dims(dims))

    def _photos(self) -> Iterator[Tensor]:
        """Those that INT8 is calibrated on, (1, 3, S, S) each; none where there is no INT8."""
        if self.request.calibration and "int8" in self.recipe.precisions:
            yield from map(torch.from_numpy, self.request.calibration.tensors(self.preprocess))

    def _make(self, specs: Sequence[GraphSpec], variant: Variant, ingredients: Ingredients) -> dict[str, Path]:
        stage = f"{variant.precision} {ENGINE_NAMES[variant.engine]} graphs"
        calibration = self.request.calibration
        if calibration and any(how.precision == "int8" for how in variant.graphs.values()):
            stage += f", calibrating on {counted(len(calibration.ids), 'photo')} of {calibration.source}"
        if stage != "fp32 ONNX graphs":  # which is said already
            self.say(stage)
        return make(specs, variant, ingredients, self.writer.scratch)

    def _start(self, variant: Variant, made: Mapping[str, Path]) -> Engine:
        graphs = {
            role: Graph(path.read_bytes(), graph_entry(path, variant.engine, variant.graphs[role].precision))
            for role, path in made.items()
        }
        return start(graphs, default_threads(), f"the graphs of {variant.name}")

    def _parity_images(self) -> FloatArray:
        """The golden photo and a few of the calibration's, (N, 3, S, S)."""
        photos: list[bytes | Path] = [golden_photo.golden_photo()]
        if self.request.calibration:
            photos += self.request.calibration.paths[: self.recipe.parity_photos - 1]
        return np.concatenate([to_tensor(photo, self.preprocess) for photo in photos])

    def _parity(
        self, reference: Engine, variants: Sequence[Variant], engines: Mapping[str, Engine], images: FloatArray
    ) -> list[Parity]:
        self.say(f"parity with torch on {counted(len(images), 'photo')}")
        rows = []
        for variant in variants:
            rows += check_parity(reference, engines[variant.name], variant, images, self.recipe.tolerances)
        return rows

    def _layer_noise(
        self,
        specs: Sequence[GraphSpec],
        variants: Sequence[Variant],
        made: Mapping[str, Mapping[str, Path]],
        ingredients: Ingredients,
    ) -> dict[str, list[dict[str, Any]]]:
        """Of the INT8 graphs of each set, the layers' signal-to-noise ratios against fp32."""
        found: dict[str, list[dict[str, Any]]] = {}
        for variant in variants:
            int8 = [role for role, how in variant.graphs.items() if how.precision == "int8"]
            if not int8:
                continue
            if not found:
                self.say("signal-to-noise ratio of each INT8 layer")
            fp32 = made[set_name(variant.engine, "fp32")]
            pairs = {role: (fp32[role], made[variant.name][role]) for role in int8}
            rows = layer_noise(specs, variant.engine, pairs, ingredients)
            found[variant.name] = [row.to_json() for row in rows]
        return found

    def _on_val(
        self, carried: Sequence[Variant], engines: Mapping[str, Engine]
    ) -> tuple[dict[str, Any], dict[str, SetResult], Confidence | None]:
        """How val was captioned, the results by set, and ``confidence.json``; nothing without captioned photos."""
        datasets = self.request.evaluate_on
        if datasets is None:
            return {}, {}, None
        photos = datasets.split("val")
        self.say(
            f"captions of {counted(len(photos), 'val photo')}, by torch and {counted(len(engines), 'set')} of graphs"
        )
        measured: dict[str, Engine] = {REFERENCE: TorchEngine(self.checkpoint.model()), **engines}
        captions = caption_photos(measured, photos, self.preprocess, self.vocabulary, self.options)
        results = compare(captions, photos, self.vocabulary, self.recipe.gate, datasets.listed("train"))
        for name, result in results.items():
            if result.difference and not result.difference.passes_gate:
                self.say(f"{name} misses its caption gate: {result.difference.text}")
        names = dict.fromkeys(photo.dataset for photo in photos)
        protocol = protocol_of(", ".join(names), "val", len(photos), self.options)
        used = {name.partition("-")[0]: engine.name for name, engine in measured.items()}
        if len(photos) < self.recipe.confidence_photos:
            self.say(f"no confidence: it takes {self.recipe.confidence_photos} val photos to calibrate")
            return {**protocol, "engines": used}, results, None
        hypotheses = {variant.name: captions[variant.name].beam for variant in carried}
        confidence = calibrate(hypotheses, photos, self.vocabulary, protocol)
        return {**protocol, "engines": used}, results, confidence

    def _golden(self, carried: Sequence[Variant], engines: Mapping[str, Engine], image: FloatArray) -> dict[str, Any]:
        """The content of ``golden.json``."""
        return {
            "photo": f"golden/{golden_photo.PHOTO}",
            "credit": golden_photo.CREDIT,
            "input_sha256": tensor_digest(image),
            "tolerances": dataclasses.asdict(self.recipe.golden),
            "graphs": {
                variant.name: golden_record(engines[variant.name], image, self.vocabulary, self.options)
                for variant in carried
            },
        }

    def _add_graphs(
        self,
        carried: Sequence[Variant],
        made: Mapping[str, Mapping[str, Path]],
        results: Mapping[str, SetResult],
    ) -> None:
        facts = {}
        for variant in carried:
            graphs = {}
            for role, path in made[variant.name].items():
                if path.exists():  # else another set has brought it
                    facts[path.name] = graph_facts(path)
                graphs[role] = self.writer.add_graph(path, variant.engine, variant.graphs[role].precision)
            passes = results[variant.name].passes_gate if results else None
            self.writer.add_set(GraphSet(variant.name, variant.engine, graphs, passes))
        self.writer.add_json("graphs.json", "graphs", facts)

    def _add_documents(
        self, evaluation: Mapping[str, Any], results: Mapping[str, SetResult], confidence: Confidence | None
    ) -> None:
        writer, calibration = self.writer, self.request.calibration
        writer.add_json("preprocess.json", "preprocess", self.preprocess.to_json())
        writer.add_json("vocab.json", "vocab", self.vocabulary.to_json())
        writer.add_json("generation.json", "generation", self.generation.to_json())
        if confidence is not None:
            writer.add_json("confidence.json", "confidence", confidence.to_json())
        writer.add_json("eval.json", "eval", evaluation)
        writer.add_json("recipe.json", "recipe", self.recipe.to_json())
        if calibration and "int8" in self.recipe.precisions:
            document = {
                "source": calibration.source,
                "method": self.recipe.int8.calibration_method,
                "photos": list(calibration.ids),
            }
            writer.add_json("calibration.json", "calibration", document)
        name = self.request.name or self.checkpoint.dims.preset
        card = model_card(self.checkpoint, name, evaluation, results, self.request.notes)
        writer.add_bytes("MODEL_CARD.md", "card", card.encode())
