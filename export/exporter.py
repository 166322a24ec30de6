"""From a checkpoint to a bundle: graphs, parity, figures, and the files put in place at once."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecap.architectures.checkpoint import Checkpoint, load_checkpoint
from edgecap.architectures.lstm.defaults import default_generation
from edgecap.architectures.lstm.dims import PRESETS
from edgecap.architectures.lstm.preprocessing import preprocess_config
from edgecap.architectures.lstm.rewrites.bias_folding import fold_projection_bias
from edgecap.architectures.lstm.torch_engine import TorchBackend
from edgecap.data.karpathy import CaptionDataset
from edgecap.errors import CheckpointError, ExportError
from edgecap.export.card import difference_text, model_card
from edgecap.export.compress.calibration import CalibrationSet
from edgecap.export.graphs.facts import graph_facts
from edgecap.export.graphs.maker import GraphMaker
from edgecap.export.graphs.tflite import require_converter
from edgecap.export.proof import golden_photo as golden
from edgecap.export.proof.caption_gate import REFERENCE, caption_photos, compare
from edgecap.export.proof.confidence_fit import calibrate
from edgecap.export.proof.parity import Parity, check_parity
from edgecap.export.recipe import ExportRecipe
from edgecap.export.writer import BundleWriter
from edgecap.interrupt import StopRequest
from edgecap.metrics.split import protocol_of
from edgecap.runtime.bundle.bundle import Bundle, Confidence, Dims
from edgecap.runtime.bundle.manifest import GRAPH_ROLES, PRECISIONS, set_name
from edgecap.runtime.engines import libraries
from edgecap.runtime.engines.engine import Backend, FloatArray
from edgecap.runtime.loading import default_threads
from edgecap.runtime.photo.preprocess import to_tensor
from edgecap.runtime.verify.record import golden_record, tensor_digest
from edgecap.wording import counted


@dataclass(frozen=True)
class ExportRequest:
    """What to export, where to, and what to measure it on."""

    checkpoint: Path
    target: Path
    recipe: ExportRecipe
    name: str | None = None  # of the bundle; the preset's without one
    preset: str | None = None  # that the checkpoint must have
    calibration: CalibrationSet | None = None
    evaluate_on: CaptionDataset | None = None  # its val split
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
    if "tflite" in request.recipe.runtimes:
        require_converter()
    if request.evaluate_on is not None:
        request.evaluate_on.check_held_out()
        request.evaluate_on.split("val")  # whatever it lacks is said now, not when all graphs are made
    checkpoint = load_checkpoint(request.checkpoint, preset=request.preset)
    preset = checkpoint.dims.preset
    if preset not in PRESETS:
        raise CheckpointError(request.checkpoint, f"is of the unknown preset {preset!r} (known: {', '.join(PRESETS)})")
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
        self.name = request.name or checkpoint.dims.preset
        self.vocabulary = checkpoint.vocabulary
        self.preprocess = preprocess_config(checkpoint.dims)
        self.generation = default_generation(checkpoint.vocabulary)
        self.options = self.generation.options(self.vocabulary)
        self.model = fold_projection_bias(checkpoint.model())
        self.maker = GraphMaker(
            self.model,
            self.recipe,
            request.calibration,
            self.preprocess,
            self.vocabulary,
            self.options,
            writer.scratch,
            say,
        )

    def run(self) -> Bundle:
        self.maker.make()
        backends = {set_name(*graphs): self._backend(*graphs) for graphs in self._sets(measured=True)}
        images = self._parity_images()
        evaluation = self._evaluation(self._parity(backends, images))
        of_val, confidence = self._on_val(backends)
        evaluation |= of_val
        record = self._golden(backends, images[:1])
        self.say("writing the bundle")
        self._add_graphs(evaluation.get("results", {}))
        self.writer.add_bytes(f"golden/{golden.PHOTO}", "golden", golden.golden_photo())
        self.writer.add_json("golden/golden.json", "golden", record)
        self._add_documents(evaluation, confidence)
        dims = self.checkpoint.dims
        sizes = Dims(
            dims.image_size, dims.locations, dims.feature_dim, dims.attention_dim, dims.hidden_dim, dims.vocab_size
        )
        return self.writer.finish(self.name, dims.preset, sizes)

    def _sets(self, *, measured: bool = False) -> Iterator[tuple[str, str]]:
        """Runtime and precision of the sets that the bundle carries; ``measured`` adds the fp32 ones, and first."""
        precisions = sorted({*self.recipe.precisions, *(["fp32"] if measured else [])}, key=PRECISIONS.index)
        yield from ((runtime, name) for runtime in self.recipe.runtimes for name in reversed(precisions))

    def _backend(self, runtime: str, precision: str) -> Backend:
        encoder, step = (self.maker.path(role, runtime, precision).read_bytes() for role in GRAPH_ROLES)
        return libraries.start(runtime, encoder, step, default_threads(), f"the {precision} {runtime} graphs")

    def _parity_images(self) -> FloatArray:
        """The golden photo and a few of the calibration's, (N, 3, S, S)."""
        photos: list[bytes | Path] = [golden.golden_photo()]
        if self.request.calibration:
            photos += self.request.calibration.paths[: self.recipe.parity_photos - 1]
        return np.concatenate([to_tensor(photo, self.preprocess) for photo in photos])

    def _parity(self, backends: Mapping[str, Backend], images: FloatArray) -> list[Parity]:
        self.say(f"parity with torch on {counted(len(images), 'photo')}")
        reference = TorchBackend(self.model)
        rows = []
        for name, backend in backends.items():
            rows += check_parity(reference, backend, name, images, self.recipe.tolerances)
        return rows

    def _evaluation(self, parity: list[Parity]) -> dict[str, Any]:
        """The content of ``eval.json`` but for captions."""
        content = self.request.checkpoint.read_bytes()
        return {
            "checkpoint_sha256": hashlib.sha256(content).hexdigest(),
            "bytes": {set_name(*graphs): self._bytes(*graphs) for graphs in self._sets(measured=True)},
            "parity": [row.to_json() for row in parity],
            "layer_noise": self._layer_noise(),
        }

    def _on_val(self, backends: Mapping[str, Backend]) -> tuple[dict[str, Any], Confidence | None]:
        """What the captions of val add to ``eval.json``, and ``confidence.json``; nothing without captioned photos."""
        dataset = self.request.evaluate_on
        if dataset is None:
            return {}, None
        photos = dataset.split("val")
        self.say(
            f"captions of {counted(len(photos), 'val photo')}, by torch and {counted(len(backends), 'set')} of graphs"
        )
        measured: dict[str, Backend] = {REFERENCE: TorchBackend(self.checkpoint.model()), **backends}
        captions = caption_photos(measured, photos, self.preprocess, self.vocabulary, self.options)
        results = compare(captions, photos, self.vocabulary, self.recipe.gate, dataset.splits.get("train", ()))
        for name, scores in results.items():
            if not scores.get("passes gate", True):
                self.say(f"{name} misses its caption gate: {difference_text(scores)}")
        protocol = protocol_of(dataset.name, "val", len(photos), self.options)
        used = {name.partition("-")[0]: backend.name for name, backend in measured.items()}
        evaluation = {"protocol": {**protocol, "engines": used}, "results": results}
        if len(photos) < self.recipe.confidence_photos:
            self.say(f"no confidence: it takes {self.recipe.confidence_photos} val photos to calibrate")
            return evaluation, None
        carried = {name: captions[name].beam for name in (set_name(*graphs) for graphs in self._sets())}
        return evaluation, calibrate(carried, photos, self.vocabulary, protocol)

    def _bytes(self, runtime: str, precision: str) -> int:
        return sum(self.maker.path(role, runtime, precision).stat().st_size for role in GRAPH_ROLES)

    def _layer_noise(self) -> dict[str, list[dict[str, Any]]]:
        """Of each INT8 set, the layers' signal-to-noise ratios against fp32."""
        if "int8" not in self.recipe.precisions:
            return {}
        self.say("signal-to-noise ratio of each INT8 layer")
        return {
            set_name(runtime, "int8"): [row.to_json() for row in self.maker.layer_noise(runtime)]
            for runtime in self.recipe.runtimes
        }

    def _golden(self, backends: Mapping[str, Backend], image: FloatArray) -> dict[str, Any]:
        """The content of ``golden.json``."""
        return {
            "photo": f"golden/{golden.PHOTO}",
            "credit": golden.CREDIT,
            "input_sha256": tensor_digest(image),
            "tolerances": dataclasses.asdict(self.recipe.golden),
            "graphs": {
                set_name(*graphs): golden_record(backends[set_name(*graphs)], image, self.vocabulary, self.options)
                for graphs in self._sets()
            },
        }

    def _add_graphs(self, results: Mapping[str, Mapping[str, Any]]) -> None:
        facts = {}
        for runtime, precision in self._sets():
            passes = results.get(set_name(runtime, precision), {}).get("passes gate")
            for role in GRAPH_ROLES:
                made = self.maker.path(role, runtime, precision)
                facts[made.name] = graph_facts(made)
                self.writer.add_graph(made, role, runtime, precision, passes)
        self.writer.add_json("graphs.json", "graphs", facts)

    def _add_documents(self, evaluation: dict[str, Any], confidence: Confidence | None) -> None:
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
                "method": self.recipe.calibration_method,
                "photos": list(calibration.ids),
            }
            writer.add_json("calibration.json", "calibration", document)
        card = model_card(self.checkpoint, self.name, evaluation, self.request.notes)
        writer.add_bytes("MODEL_CARD.md", "card", card.encode())
