"""All graphs of a bundle, made one from the other in one folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import onnx
import torch

from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.lstm.rewrites.scale_sharing import capped
from edgecap.export.compress.calibration import CalibrationSet
from edgecap.export.compress.half_storage import store_half
from edgecap.export.compress.layer_inputs import DoubleArray, Feeds, Moments, input_moments
from edgecap.export.compress.layer_noise import LayerNoise, onnx_layer_noise, tflite_layer_noise
from edgecap.export.compress.quantization import quantize_encoder, quantize_step
from edgecap.export.compress.weight_range import check_weight_range
from edgecap.export.compress.weight_rounding import round_weights
from edgecap.export.graphs.tflite import convert_encoder, convert_step
from edgecap.export.graphs.torch_to_onnx import export_encoder, export_step
from edgecap.export.recipe import ExportRecipe
from edgecap.runtime.bundle.manifest import GRAPH_ROLES
from edgecap.runtime.bundle.vocabulary import Vocabulary
from edgecap.runtime.engines.engine import FloatArray, IntArray, Step
from edgecap.runtime.engines.onnx_engine import OnnxBackend
from edgecap.runtime.loading import default_threads
from edgecap.runtime.photo.preprocess import PreprocessConfig
from edgecap.runtime.search.decoding import DecodingOptions, decode
from edgecap.wording import counted

ROUNDING_BATCH = 25  # photos that are captioned at a time for the step's inputs
NOISE_STEPS = 8  # of the first of these batches, that the step's noise is measured on


class GraphMaker:
    """Makes graphs of the recipe in ``folder``; ``say`` gets a line a stage.

    fp32 graphs are always made: the others are made from them, and measured against them.
    """

    def __init__(
        self,
        model: CaptionModel,
        recipe: ExportRecipe,
        calibration: CalibrationSet | None,
        preprocess: PreprocessConfig,
        vocabulary: Vocabulary,
        options: DecodingOptions,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self.model, self.recipe, self.calibration, self.folder, self.say = model, recipe, calibration, folder, say
        self.preprocess, self.vocabulary, self.options = preprocess, vocabulary, options

    def path(self, role: str, runtime: str, precision: str) -> Path:
        """Where a graph is, once made."""
        return self.folder / f"{role}.{precision}.{runtime}"

    def make(self) -> None:
        """Make them. Raises ``ExportError``, ``ImageError``."""
        self.make_fp32()
        if "fp16" in self.recipe.precisions:
            self.say("fp16 graphs")
            for runtime in self.recipe.runtimes:
                for role in GRAPH_ROLES:
                    fp32, fp16 = (self.path(role, runtime, precision) for precision in ("fp32", "fp16"))
                    store_half(fp32, fp16, role)
        if "int8" in self.recipe.precisions:
            self.make_int8()

    def make_fp32(self) -> None:
        """Make the graphs that all others are made from. Raises ``ExportError``."""
        self.say("fp32 ONNX graphs")
        tensors = (
            self.calibration.tensors(self.preprocess) if self.calibration and "int8" in self.recipe.precisions else ()
        )
        photos = map(torch.from_numpy, tensors)
        export_encoder(self.model, self.path("encoder", "onnx", "fp32"), self.recipe.opset, photos=photos)
        export_step(self.model, self.path("decoder_step", "onnx", "fp32"), self.recipe.opset)
        if "tflite" in self.recipe.runtimes:
            self.say("fp32 TFLite graphs")
            convert_encoder(self.path("encoder", "onnx", "fp32"), self.path("encoder", "tflite", "fp32"))
            step = self.path("decoder_step", "onnx", "fp32"), self.path("decoder_step", "tflite", "fp32")
            convert_step(*step, self._hypotheses())

    def _hypotheses(self) -> tuple[int, ...]:
        """Of the signatures of a TensorFlow Lite step: the start of every search, greedy search, and the default."""
        return 1, self.options.beam

    def make_int8(self) -> None:
        """Make the INT8 graphs from the fp32 ones. Raises ``ExportError``, ``ImageError``."""
        assert self.calibration is not None  # export_bundle
        recipe, source = self.recipe, self.calibration.source
        self.say(f"weights to INT8, measured on {counted(len(self.calibration.ids), 'photo')} of {source}")
        moments = {
            "encoder": self._encoder_moments(),
            "decoder_step": input_moments(self.path("decoder_step", "onnx", "fp32"), self.step_samples()),
        }
        if "onnx" in recipe.runtimes:
            self.say(f"INT8 ONNX graphs, calibrating on {counted(len(self.calibration.ids), 'photo')} of {source}")
            self._make_int8_onnx(moments)
        if "tflite" in recipe.runtimes:
            self.say(f"INT8 TFLite graphs, calibrating on {counted(len(self.calibration.ids), 'photo')} of {source}")
            self._make_int8_tflite(moments)
        for runtime in recipe.runtimes:
            for role in GRAPH_ROLES:
                check_weight_range(self.path(role, runtime, "int8"), role)

    def _make_int8_onnx(self, moments: Mapping[str, dict[str, Moments]]) -> None:
        assert self.calibration is not None
        rounding = {"per_channel": True, "pair_limit": self.recipe.pair_limit}
        encoder, steps = self._rounded("encoder", moments, **rounding)
        onnx.save_model(capped(onnx.load_model(encoder)), encoder)
        tensors, method = self.calibration.tensors(self.preprocess), self.recipe.calibration_method
        quantize_encoder(encoder, self.path("encoder", "onnx", "int8"), tensors, method, steps)
        step, steps = self._rounded("decoder_step", moments, **rounding)
        quantize_step(step, self.path("decoder_step", "onnx", "int8"), steps)

    def _make_int8_tflite(self, moments: Mapping[str, dict[str, Moments]]) -> None:
        """LiteRT's kernels widen before they add, and its converter chooses the steps: no pair has a limit."""
        assert self.calibration is not None
        encoder, _ = self._rounded("encoder", moments, per_channel=True)
        onnx.save_model(capped(onnx.load_model(encoder)), encoder)
        convert_encoder(encoder, self.path("encoder", "tflite", "int8"), self.calibration.tensors(self.preprocess))
        step, _ = self._rounded("decoder_step", moments, per_channel=False)
        convert_step(step, self.path("decoder_step", "tflite", "int8"), self._hypotheses(), dynamic=True)

    def _rounded(
        self, role: str, moments: Mapping[str, dict[str, Moments]], *, per_channel: bool, pair_limit: bool = False
    ) -> tuple[Path, dict[str, DoubleArray]]:
        """The fp32 graph with its weights on the INT8 grid, and the grid's step sizes by weight."""
        fp32, rounded = self.path(role, "onnx", "fp32"), self.path(role, "onnx", "rounded")
        steps = round_weights(
            fp32, rounded, role, moments[role], self.recipe, per_channel=per_channel, pair_limit=pair_limit
        )
        return rounded, steps

    def _encoder_moments(self) -> dict[str, Moments]:
        return input_moments(self.path("encoder", "onnx", "fp32"), self.encoder_samples())

    def encoder_samples(self) -> Iterator[Feeds]:
        """Inputs of the encoder: preprocessed calibration photos, as many as the rounding sees."""
        assert self.calibration is not None
        first = self.calibration.first(self.recipe.encoder_rounding_photos)
        return ({"image": tensor} for tensor in first.tensors(self.preprocess))

    def step_samples(self) -> Iterator[Feeds]:
        """Inputs of the decoder step: what the default search of the calibration photos gives it, in fp32."""
        assert self.calibration is not None
        encoder, step = (self.path(role, "onnx", "fp32").read_bytes() for role in GRAPH_ROLES)
        backend = _Recorder(OnnxBackend(encoder, step, default_threads()))
        for images in self.calibration.batches(self.preprocess, ROUNDING_BATCH):
            decode(backend, backend.engine.encode(images), self.vocabulary, self.options)
            yield from backend.feeds
            backend.feeds.clear()

    def layer_noise(self, runtime: str) -> list[LayerNoise]:
        """The signal-to-noise ratios of the INT8 layers of a runtime's graphs, on a few photos and their captions."""
        few = islice(self.encoder_samples(), self.recipe.parity_photos)
        steps = islice(self.step_samples(), NOISE_STEPS)
        samples: dict[str, Iterable[Feeds]] = {"encoder": few, "decoder_step": steps}
        measure = onnx_layer_noise if runtime == "onnx" else tflite_layer_noise
        return [
            row
            for role in GRAPH_ROLES
            for row in measure(self.path(role, runtime, "fp32"), self.path(role, runtime, "int8"), role, samples[role])
        ]


class _Recorder:
    """A backend that keeps what its steps are given."""

    def __init__(self, engine: OnnxBackend) -> None:
        self.engine, self.name = engine, engine.name
        self.encode = engine.encode
        self.feeds: list[Feeds] = []

    def step(self, token: IntArray, h: FloatArray, c: FloatArray, features: FloatArray, keys: FloatArray) -> Step:
        """As the engine's."""
        self.feeds.append({"token": token, "h": h, "c": c, "features": features, "keys": keys})
        return self.engine.step(token, h, c, features, keys)
