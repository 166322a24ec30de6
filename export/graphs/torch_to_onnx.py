"""The two fp32 graphs of a checkpoint, from torch to simplified ONNX."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnxsim
import torch
from onnx import ModelProto
from onnxruntime import InferenceSession, SessionOptions
from torch import Tensor, nn
from torch.export import Dim

from edgecap.architectures.backbones.shufflenet import ShuffleNetV2
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.lstm.rewrites.channel_alignment import align_channels
from edgecap.architectures.lstm.rewrites.scale_sharing import share_scales
from edgecap.architectures.lstm.rewrites.shuffle_folding import fold_shuffles
from edgecap.errors import ExportError, brief
from edgecap.runtime.bundle.bundle import SCHEMA_VERSION
from edgecap.runtime.engines.onnx_engine import ENCODER_INPUTS, ENCODER_OUTPUTS, STEP_INPUTS, STEP_OUTPUTS
from edgecap.runtime.engines.saturation import EXACT_PRODUCTS, RECORD


class EncoderGraph(nn.Module):
    """Once per photo: image (1, 3, S, S) -> features (1, L, D), keys (1, L, A), h0 (1, H), c0 (1, H)."""

    def __init__(self, model: CaptionModel, *, folded: bool = True, photos: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.encoder, self.decoder = copy.deepcopy(model.encoder), model.decoder
        if folded and isinstance(model.encoder.backbone, ShuffleNetV2):
            self.encoder.backbone = align_channels(fold_shuffles(model.encoder.backbone))
            share_scales(self.encoder.backbone, photos)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features = self.encoder(image)  # (1, L, D)
        return features, *self.decoder.init_state(features)


class StepGraph(nn.Module):
    """Once per word, for K hypotheses of each of N photos: the decoder's ``step``."""

    def __init__(self, model: CaptionModel) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(
        self, token: Tensor, h: Tensor, c: Tensor, features: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.decoder.step(token, h, c, features, keys)


def export_encoder(
    model: CaptionModel, path: Path, opset: int, *, folded: bool = True, photos: Iterable[Tensor] = ()
) -> None:
    """Write the fp32 encoder, with its shuffles ``folded`` away or as they are. Raises ``ExportError``.

    ``photos``, (1, 3, S, S) each, are what branches get their shared scales from.
    """
    size = model.dims.image_size
    graph = EncoderGraph(model, folded=folded, photos=photos)
    _export(graph, (torch.zeros(1, 3, size, size),), "encoder", path, opset, None)


def export_step(model: CaptionModel, path: Path, opset: int) -> None:
    """Write the fp32 decoder step, with the photo axis N and the hypothesis axis K dynamic. Raises ``ExportError``."""
    dims = model.dims
    photos, count = 2, 3  # any sizes but 1, which would be taken as constants
    # Each input is a tensor of its own: torch.export takes one tensor given twice for one input.
    inputs = (
        torch.zeros(photos, count, dtype=torch.int64),
        torch.zeros(photos, count, dims.hidden_dim),
        torch.zeros(photos, count, dims.hidden_dim),
        torch.zeros(photos, dims.locations, dims.feature_dim),
        torch.zeros(photos, dims.locations, dims.attention_dim),
    )
    both = {0: Dim("N"), 1: Dim("K")}
    per_photo = {0: both[0]}
    _export(StepGraph(model), inputs, "decoder_step", path, opset, (both, both, both, per_photo, per_photo))


def _export(
    graph: nn.Module, inputs: tuple[Tensor, ...], role: str, path: Path, opset: int, dynamic: tuple[object, ...] | None
) -> None:
    names = {"encoder": (ENCODER_INPUTS, ENCODER_OUTPUTS), "decoder_step": (STEP_INPUTS, STEP_OUTPUTS)}[role]
    try:
        with _quiet("torch.onnx"):
            program = torch.onnx.export(
                graph.eval(),
                inputs,
                input_names=names[0],
                output_names=names[1],
                opset_version=opset,
                dynamic_shapes=dynamic,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter's errors share no base
        raise ExportError("torch.onnx", role, brief(error)) from error
    assert program is not None  # no file name was given
    # Folding only: torch has fused BatchNorm and padding, and newer releases' fusions break up 3-D matrix products.
    try:
        simplified, valid = onnxsim.simplify(program.model_proto, perform_optimization=False)
    except RuntimeError as error:
        raise ExportError("onnxsim", role, brief(error)) from error
    if not valid:
        raise ExportError("onnxsim", role, "the simplified graph gives other outputs")
    save_graph(simplified, path, role, "fp32")


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """A logger that says nothing below errors within the block, and no warnings of the exporter's own internals."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def save_graph(model: ModelProto, path: Path, role: str, precision: str, *, safe: bool = False) -> None:
    """Write a graph that says itself what it is, whatever becomes of its manifest.

    One that is ``safe`` has no INT8 products that can saturate (:mod:`edgecap.runtime.engines.saturation`).
    """
    properties = {"role": role, "precision": precision, "schema_version": str(SCHEMA_VERSION)}
    named = {f"edgecap.{name}": value for name, value in properties.items()}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, named | (dict([RECORD]) if safe else {}))
    onnx.checker.check_model(model)
    onnx.save_model(model, path)


def graph_session(model: ModelProto, outputs: Iterable[str]) -> InferenceSession:
    """A session that returns also these tensors of a graph. They must be of type float32."""
    shown = ModelProto()
    shown.CopyFrom(model)
    there = {tensor.name for tensor in (*model.graph.output, *model.graph.input)}
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in set(outputs) - there)
    options = SessionOptions()
    options.log_severity_level = 4  # only what is fatal
    options.add_session_config_entry(*EXACT_PRODUCTS)
    return InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
