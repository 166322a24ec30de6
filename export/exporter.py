"""From a checkpoint to a bundle: graphs, quantization, parity, figures, and the files put in place at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecap.data.karpathy import CaptionDataset
from edgecap.errors import ExportError
from edgecap.evaluation import protocol_of
from edgecap.export import golden
from edgecap.export.calibration import CalibrationSet
from edgecap.export.card import model_card
from edgecap.export.evaluation import evaluate
from edgecap.export.graphs import export_encoder, export_step
from edgecap.export.parity import Parity, check_parity
from edgecap.export.quantization import quantize_encoder, quantize_step
from edgecap.export.recipe import ExportRecipe
from edgecap.export.writer import BundleWriter
from edgecap.model.checkpoint import Checkpoint, load_checkpoint
from edgecap.model.generation import default_generation
from edgecap.model.preprocessing import preprocess_config
from edgecap.model.torch_backend import TorchBackend
from edgecap.runtime.backend import FloatArray
from edgecap.runtime.bundle import Bundle, Dims
from edgecap.runtime.captioner import default_threads
from edgecap.runtime.onnx_backend import OnnxBackend
from edgecap.runtime.preprocess import to_tensor

ROLES = ("encoder", "decoder_step")


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
    checkpoint = load_checkpoint(request.checkpoint, preset=request.preset)
    with BundleWriter(request.target) as writer:
        return _Export(request, checkpoint, writer, say).run()


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
        self.model = checkpoint.model()
        # fp32 is always made: it is what the others are measured against.
        self.precisions = ("fp32", *(name for name in self.recipe.precisions if name != "fp32"))

    def run(self) -> Bundle:
        self._make_graphs()
        backends = {precision: self._backend(precision) for precision in self.precisions}
        images = self._parity_images()
        parity = self._parity(backends, images)
        evaluation = self._evaluation(backends, parity)
        self.say("writing the bundle")
        for precision in self.recipe.precisions:
            for role in ROLES:
                name = f"{role}.{precision}.onnx"
                self._graph(role, precision).rename(self.writer.path(name))
                self.writer.add_graph(name, role, precision)
        self._add_golden(backends, images[:1])
        self._add_documents(evaluation)
        dims = self.checkpoint.dims
        sizes = Dims(
            dims.image_size, dims.locations, dims.feature_dim, dims.attention_dim, dims.hidden_dim, dims.vocab_size
        )
        return self.writer.finish(self.name, dims.preset, sizes)

    def _graph(self, role: str, precision: str) -> Path:
        return self.writer.scratch / f"{role}.{precision}.onnx"

    def _make_graphs(self) -> None:
        self.say("fp32 graphs")
        export_encoder(self.model, self._graph("encoder", "fp32"), self.recipe.opset)
        export_step(self.model, self._graph("decoder_step", "fp32"), self.recipe.opset)
        if "int8" in self.precisions:
            calibration = self.request.calibration
            assert calibration is not None  # export_bundle
            self.say(f"int8 graphs, calibrating on {len(calibration.ids)} photos of {calibration.source}")
            quantize_encoder(
                self._graph("encoder", "fp32"),
                self._graph("encoder", "int8"),
                calibration.tensors(self.preprocess),
                self.recipe.calibration_method,
            )
            quantize_step(self._graph("decoder_step", "fp32"), self._graph("decoder_step", "int8"))

    def _backend(self, precision: str) -> OnnxBackend:
        encoder, step = (self._graph(role, precision).read_bytes() for role in ROLES)
        return OnnxBackend(encoder, step, default_threads(), source=f"{precision} graphs")

    def _parity_images(self) -> FloatArray:
        """The golden photo and a few of the calibration's, (N, 3, S, S)."""
        photos: list[bytes | Path] = [golden.golden_photo()]
        if self.request.calibration:
            photos += self.request.calibration.paths[: self.recipe.parity_photos - 1]
        return np.concatenate([to_tensor(photo, self.preprocess) for photo in photos])

    def _parity(self, backends: dict[str, OnnxBackend], images: FloatArray) -> list[Parity]:
        self.say(f"parity with torch on {len(images)} photos")
        reference = TorchBackend(self.model)
        rows = []
        for precision, backend in backends.items():
            rows += check_parity(reference, backend, precision, images, self.recipe.tolerances)
        return rows

    def _evaluation(self, backends: dict[str, OnnxBackend], parity: list[Parity]) -> dict[str, Any]:
        content = self.request.checkpoint.read_bytes()
        evaluation: dict[str, Any] = {
            "checkpoint_sha256": hashlib.sha256(content).hexdigest(),
            "parity": [row.to_json() for row in parity],
        }
        dataset = self.request.evaluate_on
        if dataset is None:
            return evaluation
        photos = dataset.split("val")
        options = self.generation.options(self.vocabulary)
        self.say(f"captions of {len(photos):,} val photos, {' and '.join(backends)}")
        protocol = protocol_of(dataset.name, "val", len(photos), options)
        engine = next(iter(backends.values())).name
        results = evaluate(backends, photos, self.preprocess, self.vocabulary, options)
        return {**evaluation, "protocol": {**protocol, "engine": engine}, "results": results}

    def _add_golden(self, backends: dict[str, OnnxBackend], image: FloatArray) -> None:
        options = self.generation.options(self.vocabulary)
        records = {
            f"onnx-{precision}": golden.golden_record(backends[precision], image, self.vocabulary, options)
            for precision in self.recipe.precisions
        }
        self.writer.add_bytes(f"golden/{golden.PHOTO}", "golden", golden.golden_photo())
        document = {
            "photo": f"golden/{golden.PHOTO}",
            "credit": golden.CREDIT,
            "input_sha256": golden.tensor_digest(image),
            "graphs": records,
        }
        self.writer.add_json("golden/golden.json", "golden", document)

    def _add_documents(self, evaluation: dict[str, Any]) -> None:
        writer, calibration = self.writer, self.request.calibration
        writer.add_json("preprocess.json", "preprocess", self.preprocess.to_json())
        writer.add_json("vocab.json", "vocab", self.vocabulary.to_json())
        writer.add_json("generation.json", "generation", self.generation.to_json())
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
