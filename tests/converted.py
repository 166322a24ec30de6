"""A captioner that converts in seconds, and the graphs that the exporter makes of it, each once a test run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from edgecap.architectures.backbones import efficientnet, shufflenet
from edgecap.architectures.backbones.weights import recalibrate_batchnorm
from edgecap.architectures.graph_spec import GraphSpec
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.lstm.rewrites.bias_folding import fold_projection_bias
from edgecap.architectures.registry import architecture, preset_dims
from edgecap.export.compress.half_storage import store_half
from edgecap.export.compress.layer_inputs import input_moments
from edgecap.export.compress.weight_rounding import round_weights
from edgecap.export.graphs.ingredients import graph_entry
from edgecap.export.graphs.tflite import convert
from edgecap.export.graphs.torch_to_onnx import export_graph
from edgecap.export.recipe import ExportRecipe
from edgecap.runtime.bundle.bundle import Graph
from edgecap.runtime.engines.engine import Encoded, Engine, Step
from edgecap.runtime.engines.starting import start

# Narrow and short, with every kind of block that the networks have. Channels that no variant rounds (to 8).
LITE_STAGES = (
    (1, 3, 1, 1, 8),
    (2, 3, 2, 2, 16),
    (2, 5, 2, 2, 24),
    (1, 3, 2, 2, 32),
    (1, 5, 1, 2, 40),
    (1, 5, 2, 2, 48),
    (1, 3, 1, 2, 56),
)
SHUFFLE_STAGES = ((2, 8), (3, 12), (2, 16))
S, L, D, A, H, E = 64, 4, 128, 48, 88, 200
V = 4 * H  # as many words as gates: see captioner
HYPOTHESES = (1, 5)


def captioner(preset: str, **changes: Any) -> CaptionModel:
    """A random captioner, its projection's bias folded. Gates and words have equal biases, which converters store once.

    Of its step's weights those of the embedding and of its product and the context's are large enough for FP16.
    """
    sizes = {"projection": (D,), "attention_dim": A, "hidden_dim": H, "embedding_dim": E, "image_size": S}
    with patch.object(efficientnet, "STAGES", LITE_STAGES), patch.object(shufflenet, "STAGES", SHUFFLE_STAGES):
        torch.manual_seed(0)
        model = CaptionModel(preset_dims(preset, V, **{**sizes, **changes}))
    recalibrate_batchnorm(model.encoder, [torch.randn(8, 3, S, S)])
    model = fold_projection_bias(model)
    with torch.no_grad():
        model.decoder.embedding.weight.mul_(10)
        model.decoder.output.bias.copy_(model.decoder.gates_embedding.bias)
    return model


@cache
def graph(preset: str, name: str) -> bytes:
    """A graph by its file's name: ``encoder.fp32.onnx``, ``decoder_step.int8.tflite``, ``encoder.rounded.onnx``, ..."""
    with tempfile.TemporaryDirectory() as folder:
        return _make(Path(folder), preset, name).read_bytes()


def write_graph(folder: Path, preset: str, name: str) -> Path:
    """The same as a file in ``folder``."""
    path = folder / name
    path.write_bytes(graph(preset, name))
    return path


def in_engine(engine: str, encoder: bytes, step: bytes) -> Engine:
    """Two graphs in their library, by what they say of themselves."""
    graphs = {}
    with tempfile.TemporaryDirectory() as folder:
        for role, content in (("encoder", encoder), ("decoder_step", step)):
            path = Path(folder) / f"{role}.{engine}"
            path.write_bytes(content)
            graphs[role] = Graph(content, graph_entry(path, engine, "fp32"))
    return start(graphs, 1, "converted")


def arrays(made: Encoded | Step) -> dict[str, NDArray[Any]]:
    """All that an engine made, by name."""
    if isinstance(made, Encoded):
        return {**made.memory, **made.state}
    assert made.attention is not None
    return {"log_probs": made.log_probs, "attention": made.attention, **made.state}


def stepped(engine: Engine, feeds: dict[str, NDArray[Any]]) -> Step:
    """A step of an engine, of a graph's inputs."""
    parts = {
        prefix: {name.removeprefix(prefix): value for name, value in feeds.items() if name.startswith(prefix)}
        for prefix in ("state.", "memory.")
    }
    return engine.step(feeds["token"], parts["state."], parts["memory."])


def spec(preset: str, role: str) -> GraphSpec:
    """What the architecture gives of the captioner to be exported."""

    def photos() -> Iterator[torch.Tensor]:
        return (torch.from_numpy(feeds["image"]) for feeds in encoder_samples())

    specs = architecture("lstm").graphs(captioner(preset), photos)
    return next(one for one in specs if one.role == role)


def _make(folder: Path, preset: str, name: str) -> Path:
    role, precision, engine = name.split(".")
    target = folder / name
    if name.endswith(".fp32.onnx"):
        export_graph(spec(preset, role), target, ExportRecipe().opset)
        return target
    if precision == "fp16":
        store_half(write_graph(folder, preset, f"{role}.fp32.{engine}"), target, role)
        return target
    source = write_graph(folder, preset, f"{role}.{'rounded' if precision == 'int8' else 'fp32'}.onnx")
    if precision == "rounded":
        samples = encoder_samples() if role == "encoder" else step_samples(preset)
        moments = input_moments(source, samples)
        round_weights(source, target, role, moments, ExportRecipe().int8, per_channel=role == "encoder")
        onnx.save_model(spec(preset, role).before_int8(onnx.load_model(target)), target)
    elif precision == "int8" and role == "encoder":
        convert(source, target, role, HYPOTHESES, "static", encoder_samples())
    else:
        convert(source, target, role, HYPOTHESES, "dynamic" if precision == "int8" else "float")
    return target


def images(count: int, seed: int = 0) -> list[NDArray[np.float32]]:
    """Random photos, (1, 3, S, S) each."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((1, 3, S, S), np.float32) for _ in range(count)]


def encoder_samples() -> Iterator[dict[str, NDArray[Any]]]:
    """Inputs of the ONNX encoder."""
    return ({"image": image} for image in images(8))


def step_samples(
    preset: str, photos: int = 3, hypotheses: int = 5, count: int = 4
) -> Iterator[dict[str, NDArray[Any]]]:
    """Inputs of the ONNX decoder step: random words and states, and features of random photos."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph(preset, "encoder.fp32.onnx"), providers=["CPUExecutionProvider"])
    for seed in range(count):
        rng = np.random.default_rng(seed)
        encoded = [session.run(["memory.features", "memory.keys"], {"image": image}) for image in images(photos, seed)]
        features, keys = (np.concatenate(parts) for parts in zip(*encoded, strict=True))
        h, c = (np.tanh(rng.standard_normal((photos, hypotheses, H))).astype(np.float32) for _ in range(2))
        token = rng.integers(0, V, (photos, hypotheses))
        memory = {"memory.features": features, "memory.keys": keys}
        yield {"token": token, "state.h": h, "state.c": c, **memory}
