"""What the manifest says of a graph, read from its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from converted import A, D, H, L, S, V, graph, write_graph
from exported import needs_converter
from tiny_bundle import (
    ENCODER_INPUTS,
    ENCODER_OUTPUTS,
    IR_VERSION,
    OPSET,
    STEP_INPUTS,
    STEP_OUTPUTS,
    Axes,
    encoder_graph,
    step_graph,
)
from tiny_tflite import edited

from edgecap.export.graphs.interface import graph_interface
from edgecap.runtime.bundle.entries import GraphEntry, TensorSpec

pytestmark = pytest.mark.usefixtures("one_torch_thread")

OF_STEP: dict[str, Axes] = {
    "state.h": (1, "K", H),
    "state.c": (1, "K", H),
    "memory.features": (1, L, D),
    "memory.keys": (1, L, A),
}


def specs(axes: dict[str, Axes], **types: str) -> set[TensorSpec]:
    return {TensorSpec(name, types.get(name, "float32"), shape) for name, shape in axes.items()}


@pytest.mark.parametrize("role", ["encoder", "decoder_step"])
def test_an_onnx_graph(role: str, tmp_path: Path) -> None:
    path = tmp_path / f"{role}.fp32.onnx"
    path.write_bytes(encoder_graph() if role == "encoder" else step_graph())
    inputs, outputs = (ENCODER_INPUTS, ENCODER_OUTPUTS) if role == "encoder" else (STEP_INPUTS, STEP_OUTPUTS)
    found = graph_interface(path)
    assert found.keys() == {"inputs", "outputs", "opset", "ir_version"}
    assert (found["opset"], found["ir_version"]) == (OPSET, IR_VERSION)
    assert [spec.name for spec in (*found["inputs"], *found["outputs"])] == [*inputs, *outputs]
    assert set(found["inputs"]) == specs(inputs, token="int64")
    assert set(found["outputs"]) == specs(outputs)
    GraphEntry("onnx", "fp32", **found)  # which the manifest takes


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_axes_of_an_exported_step_have_names(precision: str, tmp_path: Path) -> None:
    found = graph_interface(write_graph(tmp_path, "plus", f"decoder_step.{precision}.onnx"))
    by_photo = {name: ("N", *shape[1:]) for name, shape in OF_STEP.items()}
    assert set(found["inputs"]) == specs({"token": ("N", "K"), **by_photo}, token="int64")
    states = {"next.h": by_photo["state.h"], "next.c": by_photo["state.c"]}
    assert set(found["outputs"]) == specs({"log_probs": ("N", "K", V), **states, "attention": ("N", "K", L)})


@needs_converter
@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("int8", "int8")])
def test_a_tflite_encoder_takes_channels_last(precision: str, dtype: str, tmp_path: Path) -> None:
    found = graph_interface(write_graph(tmp_path, "plus", f"encoder.{precision}.tflite"))
    assert found.keys() == {"inputs", "outputs", "signatures"}
    assert found["signatures"] == ("encoder",)
    assert found["inputs"] == (TensorSpec("image", dtype, (1, S, S, 3)),)
    outputs: dict[str, Axes] = {name: OF_STEP[name] for name in ("memory.features", "memory.keys")}
    outputs |= {"state.h": (1, H), "state.c": (1, H)}
    assert set(found["outputs"]) == specs(outputs, **dict.fromkeys(outputs, dtype))
    assert GraphEntry("tflite", precision, **found).opset is None


@needs_converter
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_signatures_of_a_tflite_step_differ_in_k(precision: str, tmp_path: Path) -> None:
    found = graph_interface(write_graph(tmp_path, "plus", f"decoder_step.{precision}.tflite"))
    assert found["signatures"] == ("decoder_step_1", "decoder_step_5")
    assert set(found["inputs"]) == specs({"token": (1, "K"), **OF_STEP}, token="int64")
    states: dict[str, Axes] = {"next.h": (1, "K", H), "next.c": (1, "K", H)}
    assert set(found["outputs"]) == specs({"log_probs": (1, "K", V), **states, "attention": (1, "K", L)})


@needs_converter
def test_a_tflite_step_of_one_signature_has_fixed_axes(tmp_path: Path) -> None:
    """As an export for greedy search makes."""

    def edit(model: Any) -> None:
        model.signatureDefs = model.signatureDefs[:1]

    path = tmp_path / "decoder_step.fp32.tflite"
    path.write_bytes(edited(graph("plus", "decoder_step.fp32.tflite"), edit))
    found = graph_interface(path)
    assert found["signatures"] == ("decoder_step_1",)
    assert {spec.name: spec.shape for spec in found["inputs"]}["token"] == (1, 1)
