"""Checkpoints: what is written comes back, and a file that is torn, edited or another's is named and refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgecap.architectures.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgecap.architectures.lstm.network import CaptionModel
from edgecap.architectures.registry import preset_dims
from edgecap.errors import CheckpointError
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS, Vocabulary

VOCABULARY = Vocabulary((*SPECIAL_TOKENS, "a", "dog", "runs"))
DIMS = preset_dims(
    "base", len(VOCABULARY), projection=(8,), attention_dim=8, hidden_dim=8, embedding_dim=8, image_size=64
)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    weights = CaptionModel(DIMS).state_dict()
    weights["encoder.backbone.conv1.1.running_var"][0] = 3e5  # beyond float16
    state = {"rng.torch": torch.get_rng_state(), "optimizer.0.exp_avg": torch.randn(3, 4)}
    config, metrics = {"preset": "base", "crop": 0.75}, {"CIDEr-D": 45.3, "split": "val"}
    return Checkpoint(DIMS, VOCABULARY, weights, config, metrics, {"stage": 1, "best_cider_d": 0.1 + 0.2}, state)


@pytest.fixture(scope="module")
def saved(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint as a file. Not to be written to."""
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    save_checkpoint(path, checkpoint, half=False)
    return path


@pytest.fixture(scope="module")
def content(saved: Path) -> bytes:
    return saved.read_bytes()


def rewritten(saved: Path, path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], object]) -> Path:
    """A copy of ``saved`` at ``path``, its JSON document and tensors changed."""
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    document = json.loads(metadata["checkpoint"])
    change(document, tensors)
    save_file(tensors, path, {**metadata, "checkpoint": json.dumps(document)})
    return path


def same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def test_all_comes_back(checkpoint: Checkpoint, saved: Path) -> None:
    loaded = load_checkpoint(saved, preset="base")
    assert same_tensors(loaded.weights, checkpoint.weights)
    assert same_tensors(loaded.training_tensors, checkpoint.training_tensors)
    empty: dict[str, Any] = {"weights": {}, "training_tensors": {}}
    assert replace(loaded, **empty) == replace(checkpoint, **empty)
    model = loaded.model()
    assert not model.training and same_tensors(model.state_dict(), checkpoint.weights)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_half_stores_matrices_in_16_bits_and_gives_32(checkpoint: Checkpoint, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_checkpoint(path, checkpoint, half=True)
    assert path.stat().st_size < 0.6 * saved.stat().st_size
    with safe_open(path, framework="pt") as file:
        stored = {name.removeprefix("model."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, tensor in checkpoint.weights.items():
        matrix = tensor.is_floating_point() and tensor.ndim > 1
        assert stored[name].dtype == (torch.float16 if matrix else tensor.dtype)
    halved = {name: tensor.half().float() if tensor.ndim > 1 else tensor for name, tensor in checkpoint.weights.items()}
    assert same_tensors(load_checkpoint(path).weights, halved)


def test_a_save_that_fails_leaves_the_old_file(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, checkpoint, half=True)
    before = path.read_bytes()

    def full_disk(*arguments: object) -> None:
        Path(str(arguments[1])).write_bytes(b"half of a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgecap.architectures.checkpoint.save_file", full_disk)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be written: .*No space left"):
        save_checkpoint(path, checkpoint, half=True)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_torn_file_is_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    length = data.draw(st.one_of(st.integers(0, 4_000), st.integers(0, len(content) - 1)), "length")
    path = tmp_path_factory.getbasetemp() / "torn.safetensors"
    path.write_bytes(content[:length])
    with pytest.raises(CheckpointError, match=r"torn\.safetensors: is torn or not a safetensors file") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_edited_header_is_read_or_refused(
    content: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any byte of the header may change: names, shapes, dims, words. Only ``CheckpointError`` may come of it."""
    header = 8 + int.from_bytes(content[:8], "little")
    edited = bytearray(content)
    position = data.draw(st.integers(0, header - 1), "position")
    edited[position] = data.draw(st.integers(0, 255) | st.sampled_from(b'0129-"{}[],:'), "byte")
    path = tmp_path_factory.getbasetemp() / "edited.safetensors"
    path.write_bytes(edited)
    try:
        loaded = load_checkpoint(path)
    except CheckpointError as error:
        assert "edited.safetensors: " in str(error)
    else:
        assert loaded.model().dims == loaded.dims


def test_more_bytes_than_there_should_be_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    path.write_bytes(content + b"\0" * 8)
    with pytest.raises(CheckpointError, match=r"long\.safetensors: is torn"):
        load_checkpoint(path)


def test_a_header_beyond_reason_is_not_read(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + content[8:])
    with pytest.raises(CheckpointError, match=r"odd\.safetensors: is torn .*: it ends before its header does"):
        load_checkpoint(path)
    with path.open("wb") as file:  # a sparse one, which takes no room
        file.write((2**25).to_bytes(8, "little"))
        file.truncate(2**26)
    with pytest.raises(CheckpointError, match=r"odd\.safetensors: has a header of 32 MB; at most 16 are read"):
        load_checkpoint(path)


def test_a_pipe_or_device_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    for path in (tmp_path / "pipe.safetensors", Path("/dev/zero")):
        with pytest.raises(CheckpointError, match="is a pipe or device, no file"):
            load_checkpoint(path)


def test_one_checkpoint_is_the_same_bytes_each_time(checkpoint: Checkpoint, tmp_path: Path) -> None:
    contents = set()
    for number in range(8):
        save_checkpoint(tmp_path / str(number), checkpoint, half=True)
        contents.add((tmp_path / str(number)).read_bytes())
    assert len(contents) == 1


def test_another_preset_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is of preset 'base', not 'plus'"):
        load_checkpoint(saved, preset="plus")


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere: no such checkpoint file"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"no such checkpoint file"):
        load_checkpoint(tmp_path)
    other = tmp_path / "other.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": torch.zeros(2)}, other, metadata)
        with pytest.raises(CheckpointError, match=r"other\.safetensors: is a safetensors file, but not a checkpoint"):
            load_checkpoint(other)


@pytest.mark.parametrize("document", [None, "", "{", "[]", "7", "{}", '{"schema_version": null}', "[" * 100_000])
def test_metadata_that_is_no_document_is_refused(document: str | None, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    metadata = {"format": "edgecap-checkpoint"} | ({} if document is None else {"checkpoint": document})
    save_file({"weight": torch.zeros(2)}, path, metadata)
    with pytest.raises(CheckpointError, match=r"odd\.safetensors: has (broken metadata|the unknown schema)"):
        load_checkpoint(path)


def of_newer_schema(document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Nothing else of a newer schema need be as this version knows it."""
    document.clear()
    document["schema_version"] = 2


def retyped(name: str, dtype: torch.dtype) -> Callable[[dict[str, Any], dict[str, Tensor]], object]:
    """A change of a tensor's type."""
    return lambda _, tensors: tensors.update({f"model.{name}": tensors[f"model.{name}"].to(dtype)})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (of_newer_schema, r"was written by a newer edgecap \(schema 2\): upgrade"),
        (lambda document, _: document.update(schema_version="1"), "has the unknown schema '1'"),
        (lambda document, _: document.pop("dims"), "has broken metadata: 'dims'"),
        (lambda document, _: document["dims"].update(depth=3), "has broken metadata: .*depth"),
        (lambda document, _: document["dims"].pop("backbone"), "has broken metadata: .*backbone"),
        (lambda document, _: document["dims"].update(backbone="vgg"), "has dims .*unknown backbone 'vgg'"),
        (lambda document, _: document["dims"].update(hidden_dim="8"), "dims.hidden_dim must be a whole number"),
        (lambda document, _: document["dims"].update(hidden_dim=-8), "has dims that no model can have"),
        (lambda document, _: document["dims"].update(vocab_size=9), "has 7 words, its dims say 9"),
        (lambda document, _: document["vocabulary"]["tokens"].append("a"), "no token twice"),
        (lambda document, _: document["vocabulary"].pop("tokens"), "has broken metadata: vocab lacks 'tokens'"),
        (lambda document, _: document.update(training=7), "has broken metadata"),
        (
            lambda document, _: document["dims"].update(image_size=10**9),
            "has dims that no model can have: size must be",
        ),
        (lambda document, _: document["dims"].update(hidden_dim=10**18), "has dims that no model can have"),
        (lambda document, _: document["dims"].update(std=[0, 1, 1]), "has dims .*: std must be positive"),
        (lambda document, _: document["dims"].update(mean=[]), "has dims that no model can have"),
        (lambda document, _: document["dims"].update(activation="gelu"), "has dims that no model can have"),
        (lambda document, _: document["dims"].update(projection=[8] * 1000), "has dims .*: more than 16 layers"),
        (retyped("decoder.query.weight", torch.int32), "tensor decoder.query.weight is of type I32, not F32 or F16 or"),
        (retyped("decoder.query.weight", torch.float64), "tensor decoder.query.weight is of type F64"),
        (retyped("decoder.output.bias", torch.bool), "tensor decoder.output.bias is of type BOOL"),
        (
            retyped("encoder.backbone.conv1.1.num_batches_tracked", torch.float32),
            "tensor encoder.backbone.conv1.1.num_batches_tracked is of type F32, not I64",
        ),
        (lambda _, tensors: tensors.update({"other": torch.zeros(1)}), "holds the tensor other, which preset"),
        (
            lambda _, tensors: tensors.update({"training.rng.torch": torch.zeros(3, dtype=torch.complex64)}),
            "tensor training.rng.torch is of type C64, not F32",
        ),
        (
            lambda _, tensors: tensors.update({"training.average.x": torch.zeros(2**29, dtype=torch.uint8)}),
            "has a training state of more than [0-9]+ MB, too much for its model",
        ),
        (lambda _, tensors: tensors.pop("model.decoder.query.weight"), "lacks the tensor decoder.query.weight"),
        (lambda _, tensors: tensors.update({"model.extra": torch.zeros(1)}), "holds the tensor extra, which preset"),
        (
            lambda _, tensors: tensors.update({"model.decoder.output.bias": torch.zeros(8)}),
            r"tensor decoder.output.bias has shape \(8,\), preset and vocabulary want \(7,\)",
        ),
    ],
)
def test_a_part_that_does_not_fit_is_named(
    saved: Path, tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], object], problem: str
) -> None:
    path = rewritten(saved, tmp_path / "changed.safetensors", change)
    with pytest.raises(CheckpointError, match=rf"changed\.safetensors: .*{problem}"):
        load_checkpoint(path)
