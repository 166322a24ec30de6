"""What ``edgecap export`` makes: a bundle that the runtime opens and that says what torch says."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported import BOTH, GRAPHS, MARK, contents, document, quiet, sha256
from tiny_dataset import draw_photo, write_tiny_dataset

from edgecap.data.karpathy import load_dataset
from edgecap.export.calibration import from_dataset, from_folder
from edgecap.export.exporter import ExportRequest, export_bundle
from edgecap.export.quantization import quantize_encoder, quantize_step
from edgecap.export.recipe import ExportRecipe
from edgecap.model.checkpoint import load_checkpoint
from edgecap.model.generation import default_generation
from edgecap.model.preprocessing import preprocess_config
from edgecap.model.torch_backend import TorchBackend
from edgecap.runtime import load
from edgecap.runtime.bundle import MANIFEST, SCHEMA_VERSION, Bundle
from edgecap.runtime.decoding import decode
from edgecap.runtime.preprocess import to_tensor
from edgecap.runtime.vocabulary import SPECIAL_TOKENS

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("data") / "tiny", train=30, val=4)


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
    assert "chosen by its CIDEr-D of 45.30 on val, beam 5, at step 1,200 of its run" in card
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


def test_the_same_recipe_gives_the_same_int8_graphs(bundle: Path, photos: Path, tmp_path: Path) -> None:
    calibration = from_folder(photos, BOTH)
    preprocess = Bundle.open(bundle).preprocess
    tensors = calibration.tensors(preprocess)
    quantize_encoder(bundle / "encoder.fp32.onnx", tmp_path / "encoder.onnx", tensors, BOTH.calibration_method)
    quantize_step(bundle / "decoder_step.fp32.onnx", tmp_path / "decoder_step.onnx")
    for role in ("encoder", "decoder_step"):
        assert sha256(tmp_path / f"{role}.onnx") == sha256(bundle / f"{role}.int8.onnx")
