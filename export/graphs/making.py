"""A graph set, made of what an architecture gives to be exported: ``make(specs, variant)`` and nothing kept between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import onnx

from edgecap.architectures.graph_spec import GraphSpec
from edgecap.export.compress.half_storage import store_half
from edgecap.export.compress.layer_inputs import DoubleArray, Feeds
from edgecap.export.compress.layer_noise import LayerNoise, onnx_layer_noise, tflite_layer_noise
from edgecap.export.compress.quantization import quantize_dynamically, quantize_statically
from edgecap.export.compress.weight_range import check_weight_range
from edgecap.export.compress.weight_rounding import round_weights
from edgecap.export.graphs.ingredients import Ingredients
from edgecap.export.graphs.tflite import convert
from edgecap.export.graphs.torch_to_onnx import export_graph
from edgecap.export.variant import Compression, Variant

NOISE_SAMPLES = 8  # that the noise of a graph's layers is measured on


def graph_path(folder: Path, role: str, engine: str, precision: str) -> Path:
    """Where a graph is, once made: sets that share one share its file."""
    return folder / f"{role}.{precision}.{engine}"


def make_fp32(specs: Iterable[GraphSpec], folder: Path, opset: int) -> dict[str, Path]:
    """The ONNX graphs that all others are made from, by role. Raises ``ExportError``."""
    made = {spec.role: graph_path(folder, spec.role, "onnx", "fp32") for spec in specs}
    for spec in specs:
        export_graph(spec, made[spec.role], opset)
    return made


def make(specs: Sequence[GraphSpec], variant: Variant, ingredients: Ingredients, folder: Path) -> dict[str, Path]:
    """The graphs of a variant in ``folder``, by role; those that another variant made there are taken as they are.

    Raises ``ExportError``, ``ImageError``.
    """
    return {spec.role: _graph(spec, variant.engine, variant.graphs[spec.role], ingredients, folder) for spec in specs}


def _graph(spec: GraphSpec, engine: str, how: Compression, ingredients: Ingredients, folder: Path) -> Path:
    target = graph_path(folder, spec.role, engine, how.precision)
    if target.exists():
        return target
    if how.precision == "fp32":
        convert(ingredients.fp32[spec.role], target, spec.role, _hypotheses(ingredients), "float")
    elif how.precision == "fp16":
        store_half(_graph(spec, engine, Compression(), ingredients, folder), target, spec.role)
    else:
        make_int8 = {"onnx": _int8_onnx, "tflite": _int8_tflite}[engine]
        make_int8(spec, how, ingredients, target)
        check_weight_range(target, spec.role)
    return target


def _int8_onnx(spec: GraphSpec, how: Compression, ingredients: Ingredients, target: Path) -> None:
    rounded, steps = _rounded(spec, how, ingredients, target, per_channel=True, pair_limit=how.pair_limit)
    if spec.activations == "static":
        samples = ingredients.calibration_samples(spec)
        quantize_statically(rounded, target, spec.role, samples, how.calibration_method, steps)
    else:
        quantize_dynamically(rounded, target, spec.role, steps)


def _int8_tflite(spec: GraphSpec, how: Compression, ingredients: Ingredients, target: Path) -> None:
    """LiteRT's kernels widen before they add, and its converter chooses the steps: no pair has a limit."""
    static = spec.activations == "static"
    rounded, _ = _rounded(spec, how, ingredients, target, per_channel=static)
    samples = ingredients.calibration_samples(spec) if static else ()
    convert(rounded, target, spec.role, _hypotheses(ingredients), spec.activations, samples)


def _hypotheses(ingredients: Ingredients) -> tuple[int, int]:
    """Of the signatures of a TensorFlow Lite step: the start of every search, greedy search, and the default."""
    return 1, ingredients.options.beam


def _rounded(
    spec: GraphSpec,
    how: Compression,
    ingredients: Ingredients,
    target: Path,
    *,
    per_channel: bool,
    pair_limit: bool = False,
) -> tuple[Path, dict[str, DoubleArray]]:
    """The fp32 graph with its weights on the INT8 grid, ready to be quantized, and the grid's step sizes by weight."""
    rounded = target.with_name(f"{spec.role}.rounded.onnx")
    moments = ingredients.moments[spec.role]
    source = ingredients.fp32[spec.role]
    steps = round_weights(source, rounded, spec.role, moments, how, per_channel=per_channel, pair_limit=pair_limit)
    onnx.save_model(spec.before_int8(onnx.load_model(rounded)), rounded)
    return rounded, steps


def layer_noise(
    specs: Iterable[GraphSpec], engine: str, graphs: Mapping[str, tuple[Path, Path]], ingredients: Ingredients
) -> list[LayerNoise]:
    """The signal-to-noise ratios of INT8 layers, on a few samples; ``graphs`` are fp32 and INT8 by role."""
    measure = onnx_layer_noise if engine == "onnx" else tflite_layer_noise
    rows = []
    for spec in specs:
        if spec.role in graphs:
            few: Iterable[Feeds] = islice(ingredients.samples(spec), NOISE_SAMPLES)
            rows += measure(*graphs[spec.role], spec.role, few)
    return rows
