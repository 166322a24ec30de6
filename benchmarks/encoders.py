"""One trained encoder in every engine: as edgecap exports it, and as it comes without, on one photo and one thread."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from onnxruntime.quantization import QuantType, quantize_static
from PIL import Image

from edgecap.architectures.lstm.graphs import EncoderGraph, encoder_spec
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.benchmarks.contest import Contestant
from edgecap.benchmarks.graph_sets import GraphSets, compressions
from edgecap.errors import ExportError
from edgecap.export.compress.quantization import SampleReader
from edgecap.export.graphs.ingredients import graph_entry
from edgecap.export.graphs.tflite_conversion import SAMPLE_PHOTOS, SAMPLE_SHAPE
from edgecap.export.graphs.torch_to_onnx import export_graph
from edgecap.runtime.bundle.entries import ENGINES
from edgecap.runtime.engines.engine import Engine, FloatArray
from edgecap.runtime.engines.graph_engine import channels_last
from edgecap.runtime.engines.litert_engine import GraphTensor
from edgecap.runtime.engines.onnx_engine import OnnxGraph
from edgecap.runtime.photo.preprocess import load_image

FP32, INT8 = KINDS = ("fp32", "int8")
CALIBRATION_PHOTOS = 64  # of the peers' own quantizers: enough for their speed, which is what is measured

Encode = Callable[[], FloatArray]


class Encoders:
    """Makes the graphs of one checkpoint, and a contestant of each. Peers raise ``ImportError`` where they are not."""

    def __init__(self, sets: GraphSets, image: FloatArray) -> None:
        """``image`` is (1, 3, S, S)."""
        self.sets, self.image, self.folder = sets, image, sets.folder
        self.model = cast(CaptionModel, sets.network)
        self._calibration = sets.calibration.first(CALIBRATION_PHOTOS)
        self._naive = self.folder / "naive.onnx"
        export_graph(encoder_spec(self.model, lambda: (), folded=False), self._naive, sets.recipe.opset)

    def features(self) -> FloatArray:
        """What the model gives in torch, (1, L, D)."""
        with torch.inference_mode():
            features: FloatArray = self.model.encoder(torch.from_numpy(self.image)).numpy()
        return features

    def own(self) -> Iterator[Contestant]:
        """As edgecap exports them."""
        for engine, library in zip(ENGINES, ("ONNX Runtime", "LiteRT"), strict=True):
            for kind, how in compressions(KINDS).items():
                loaded = self.sets.start(engine, self.sets.make(engine, how, how), threads=1)
                yield Contestant(f"edgecap, {library}", kind, partial(self._features, loaded))

    def naive(self) -> Iterator[Contestant]:
        """The graph as torch exports it, with its shuffles, in the same two engines."""
        yield Contestant("naive graph, ONNX Runtime", FP32, self._onnx(self._naive))
        for name, activations in (("signed, its default", QuantType.QInt8), ("unsigned", QuantType.QUInt8)):
            int8 = self.folder / f"naive.{activations}.onnx"
            with contextlib.redirect_stdout(io.StringIO()):
                quantize_static(
                    self._naive,
                    int8,
                    SampleReader(self._samples()),
                    per_channel=True,
                    activation_type=activations,
                )
            yield Contestant(f"naive QDQ graph, ONNX Runtime, {name}", INT8, self._onnx(int8))
        for kind, path in self._onnx2tf().items():
            yield Contestant("naive onnx2tf graph, LiteRT", kind, self._litert(path))

    def openvino(self) -> Iterator[Contestant]:
        """OpenVINO, with weights and activations quantized by NNCF."""
        import nncf
        import openvino

        nncf.set_log_level(logging.ERROR)
        core = openvino.Core()
        # Else it computes in bfloat16 where the processor can.
        options = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        for name, path in self._graphs("OpenVINO").items():
            model = core.read_model(path)
            photos = nncf.Dataset(list(self._tensors()))
            quantized = nncf.quantize(model, photos, subset_size=CALIBRATION_PHOTOS)
            for kind, graph in ((FP32, model), (INT8, quantized)):
                yield Contestant(name, kind, partial(self._openvino_encode, core.compile_model(graph, "CPU", options)))

    def _openvino_encode(self, compiled: Any) -> FloatArray:
        features: FloatArray = compiled([self.image])["memory.features"]
        return features

    def mnn(self) -> Iterator[Contestant]:
        """MNN, quantized by its own offline tool."""
        import MNN  # noqa: F401  # before any work

        for number, (name, path) in enumerate(self._graphs("MNN").items()):
            fp32, int8 = (str(self.folder.resolve() / f"{number}.{kind}.mnn") for kind in KINDS)
            self._mnn_tool("mnnconvert", "--framework", "ONNX", "--modelFile", str(path.resolve()), "--MNNModel", fp32)
            self._mnn_tool("mnnquant", fp32, int8, str(self._mnn_calibration()))
            for kind, model in ((FP32, fp32), (INT8, int8)):
                yield Contestant(name, kind, self._mnn_encode(model))

    def ncnn(self) -> Iterator[Contestant]:
        """ncnn, converted by pnnx; in fp32 alone, as its package has no quantizer."""
        import ncnn
        import pnnx

        graph = EncoderGraph(self.model, folded=False).eval()
        path = self.folder / "peer.pt"
        pnnx.export(graph, str(path), torch.from_numpy(self.image), fp16=False)
        net = ncnn.Net()
        net.opt.num_threads = 1
        net.load_param(str(self.folder / "peer.ncnn.param"))
        net.load_model(str(self.folder / "peer.ncnn.bin"))

        def encode() -> FloatArray:
            with net.create_extractor() as extractor:
                extractor.input("in0", ncnn.Mat(self.image[0]))
                _, features = extractor.extract("out0")
            return np.array(features)

        yield Contestant("ncnn", FP32, encode)

    def _graphs(self, engine: str) -> dict[str, Path]:
        """Every peer gets the better of two graphs."""
        return {engine: self._naive, f"{engine}, edgecap's graph": self.sets.ingredients.fp32["encoder"]}

    def _samples(self) -> Iterator[dict[str, FloatArray]]:
        return ({"image": tensor} for tensor in self._tensors())

    def _tensors(self) -> Iterator[FloatArray]:
        return self._calibration.tensors(self.sets.preprocess)

    def _features(self, loaded: Engine) -> FloatArray:
        features: FloatArray = loaded.encode(self.image).memory["features"]
        return features

    def _onnx(self, path: Path) -> Encode:
        graph = OnnxGraph(path.read_bytes(), graph_entry(path, "onnx", FP32), 1, path)
        return lambda: graph.run({"image": self.image})["memory.features"]

    def _onnx2tf(self) -> dict[str, Path]:
        """What onnx2tf's command makes of the naive graph."""
        output = self.folder / "onnx2tf"
        np.save(self.folder / SAMPLE_PHOTOS, np.random.default_rng(0).random(SAMPLE_SHAPE, np.float32))
        photos = np.concatenate(list(self._tensors())).transpose(0, 2, 3, 1)  # (N, S, S, 3)
        np.save(self.folder / "calibration.npy", photos)
        calibration = ["-cind", "image", "calibration.npy", "[[[[0,0,0]]]]", "[[[[1,1,1]]]]"]
        command = ["-m", "onnx2tf", "-i", str(self._naive.resolve()), "-o", str(output.resolve()), "-oiqt"]
        _run([*command, *calibration], "onnx2tf", self.folder)
        return {FP32: output / "naive_float32.tflite", INT8: output / "naive_full_integer_quant.tflite"}

    def _litert(self, path: Path) -> Encode:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()
        (source,) = interpreter.get_input_details()
        dims = self.model.dims
        shape = (1, dims.locations, dims.feature_dim)
        # Keys have the same shape where the attention is as wide: then features are the first output of the graph.
        features = min(
            (details for details in interpreter.get_output_details() if tuple(details["shape"]) == shape),
            key=lambda details: details["name"],
        )
        given, found = GraphTensor.of(source), GraphTensor.of(features)

        def encode() -> FloatArray:
            # Every contestant begins with the same tensor, and this one has no slower way from it than edgecap.
            interpreter.set_tensor(source["index"], given.numbers(channels_last(self.image)))
            interpreter.invoke()
            return found.real(interpreter.get_tensor(features["index"]))

        return encode

    def _mnn_tool(self, tool: str, *arguments: str) -> None:
        # In a process apart, for it may crash; and not by the package's commands, which send home what they convert.
        _run(["-c", f"import sys, _tools; _tools.{tool}(['', *sys.argv[1:]])", *arguments], tool, self.folder)

    def _mnn_encode(self, path: str) -> Encode:
        import MNN

        interpreter = MNN.Interpreter(path)
        session = interpreter.createSession({"backend": "CPU", "numThread": 1})
        kind, layout = MNN.Halide_Type_Float, MNN.Tensor_DimensionType_Caffe
        source, given = (
            interpreter.getSessionInput(session, "image"),
            MNN.Tensor(self.image.shape, kind, self.image, layout),
        )
        features = interpreter.getSessionOutput(session, "memory.features")
        shape = features.getShape()
        result = MNN.Tensor(shape, kind, np.empty(shape, np.float32), layout)

        def encode() -> FloatArray:
            source.copyFrom(given)
            interpreter.runSession(session)
            features.copyToHostTensor(result)
            return np.array(result.getNumpyData())

        return encode

    def _mnn_calibration(self) -> Path:
        """Photos and a description of them, as ``mnnquant`` reads them."""
        file, photos = self.folder.resolve() / "mnn.json", self.folder.resolve() / "mnn"
        preprocess, size = self.sets.preprocess, self.image.shape[-1]
        photos.mkdir(exist_ok=True)
        for number, path in enumerate(self._calibration.paths):
            Image.fromarray(np.asarray(load_image(path, preprocess))).save(photos / f"{number}.png")
        description = {
            "format": "RGB",
            "mean": [255 * value for value in preprocess.mean],
            "normal": [1 / (255 * value) for value in preprocess.std],
            "width": size,
            "height": size,
            "path": f"{photos}/",
            "used_image_num": CALIBRATION_PHOTOS,
            "feature_quantize_method": "KL",
            "weight_quantize_method": "MAX_ABS",
        }
        file.write_text(json.dumps(description))
        return file


def noise_db(found: FloatArray, exact: FloatArray) -> float:
    """Signal to noise of a contestant's features, in decibels."""
    noise = float(np.square(found.reshape(exact.shape) - exact).mean())
    return float("inf") if noise == 0 else 10 * float(np.log10(np.square(exact).mean() / noise))


def _run(arguments: list[str], tool: str, folder: Path) -> None:
    """A Python program, quietly. Raises ``ExportError``."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise ExportError(tool, "encoder", (done.stderr or done.stdout).strip()[-200:] or f"exit {done.returncode}")
