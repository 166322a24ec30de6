"""What ``edgecap export`` makes: a bundle that the engine opens and that says what torch says."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import CALIBRATION_PHOTOS, edgecap, edgecap_here
from exported import (
    ENGINES,
    EVERYTHING,
    GRAPHS,
    MARK,
    SET_NAMES,
    SETS,
    Run,
    contents,
    document,
    hurried,
    needs_converter,
    progress,
    quiet,
    sha256,
    signalled,
)
from tiny_dataset import draw_photo

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.architectures.defaults import default_generation, preprocess_config
from edgecap.architectures.torch_engine import TorchEngine
from edgecap.data.karpathy import CaptionDataset
from edgecap.data.mixture import Mixture
from edgecap.export.compress.calibration import from_datasets
from edgecap.export.exporter import ExportRequest, export_bundle
from edgecap.export.recipe import CaptionGate
from edgecap.metrics.rightness import MEANING
from edgecap.runtime import load
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.entries import PRECISIONS, FileEntry, GraphEntry, set_name
from edgecap.runtime.bundle.files import MANIFEST
from edgecap.runtime.bundle.manifest import SCHEMA_VERSION
from edgecap.runtime.bundle.vocabulary import SPECIAL_TOKENS
from edgecap.runtime.photo.preprocess import to_tensor
from edgecap.runtime.search.decoding import decode
from edgecap.runtime.verify.record import samples, tensor_digest

pytestmark = pytest.mark.usefixtures("one_torch_thread")

DOCUMENTS = ("preprocess.json", "vocab.json", "generation.json", "eval.json", "recipe.json", "graphs.json")
GOLDEN = ("golden/golden.json", "golden/astronaut.png")
TENSORS_OF = {
    "encoder": ("memory.features", "memory.keys", "state.h", "state.c"),
    "decoder_step": ("log_probs", "next.h", "next.c", "attention"),
}
PER_WORD = {"state.h": 96, "state.c": 96, "log_probs": 44, "next.h": 96, "next.c": 96, "attention": 4}


def entry_of(bundle: Path, name: str) -> FileEntry:
    (entry,) = (entry for entry in Bundle.open(bundle).manifest.files if entry.path == name)
    return entry


def graph_of(bundle: Path, name: str) -> GraphEntry:
    graph = entry_of(bundle, name).graph
    assert graph is not None
    return graph


def test_the_command_says_its_stages_and_leaves_nothing_but_the_bundle(complete_export: Run) -> None:
    target = complete_export.target
    manifest = Bundle.open(target).manifest
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file() and path.name != MANIFEST)
    assert complete_export.out == [f"{target}  plus@{manifest.bundle_id[:12]}  {size / 1e6:.1f} MB"]
    assert complete_export.err == progress(CALIBRATION_PHOTOS, "calibration")
    assert [path.name for path in target.parent.iterdir()] == ["bundle"]
    left = {path.name.partition("_")[0] for path in complete_export.scratch.iterdir()}
    assert left <= {"torchinductor"}  # a cache that torch keeps


def test_the_bundle_holds_what_was_agreed(bundle: Path, checkpoint: Path) -> None:
    assert set(contents(bundle)) == {*GRAPHS, *DOCUMENTS, *GOLDEN, "calibration.json", "MODEL_CARD.md", MANIFEST}
    opened, saved = Bundle.open(bundle), load_checkpoint(checkpoint)
    assert opened.vocabulary == saved.vocabulary and opened.preprocess == preprocess_config(saved.dims)
    assert opened.generation == default_generation(saved.vocabulary)
    assert (opened.manifest.preset, opened.manifest.name) == ("plus", "plus")
    assert (opened.manifest.task, opened.manifest.architecture, opened.manifest.min_runtime) == (
        "caption",
        "lstm",
        "0.1.0",
    )
    assert tuple(graphs.name for graphs in opened.manifest.graph_sets) == SET_NAMES
    for engine in ENGINES:
        assert opened.precisions(engine) == ("int8", "fp16", "fp32")
    assert document(bundle, "recipe.json") == json.loads(json.dumps(EVERYTHING.to_json()))


@pytest.mark.parametrize("engine", ENGINES)
def test_fp16_takes_half_and_int8_a_quarter(bundle: Path, engine: str) -> None:
    for role in TENSORS_OF:
        fp32, fp16, int8 = ((bundle / f"{role}.{p}.{engine}").stat().st_size for p in ("fp32", "fp16", "int8"))
        # A narrow decoder is half overhead, and its small weights stay fp32.
        assert fp16 < (0.6 if role == "encoder" else 0.85) * fp32 and int8 < (0.3 if role == "encoder" else 0.4) * fp32


@pytest.mark.parametrize("name", [name for name in GRAPHS if name.endswith(".onnx")])
def test_onnx_graphs_are_listed_and_say_themselves_what_they_are(bundle: Path, name: str) -> None:
    role, precision, _ = name.split(".")
    model, entry = onnx.load_model(bundle / name), graph_of(bundle, name)
    assert {item.key: item.value for item in model.metadata_props} == {
        "edgecap.role": role,
        "edgecap.precision": precision,
        "edgecap.schema_version": str(SCHEMA_VERSION),
        **({"edgecap.saturation": "none"} if precision == "int8" else {}),
    }
    assert (entry.engine, entry.precision) == ("onnx", precision)
    assert (entry.opset, entry.ir_version, entry.signatures) == (18, model.ir_version, ())
    tensors = {tensor.name: (tensor.dtype, tensor.shape) for tensor in (*entry.inputs, *entry.outputs)}
    expected: dict[str, dict[str, tuple[str, tuple[int | str, ...]]]] = {
        "encoder": {
            "image": ("float32", (1, 3, 64, 64)),
            "memory.features": ("float32", (1, 4, 64)),
            "memory.keys": ("float32", (1, 4, 48)),
            "state.h": ("float32", (1, 96)),
            "state.c": ("float32", (1, 96)),
        },
        "decoder_step": {
            "token": ("int64", ("N", "K")),
            "memory.features": ("float32", ("N", 4, 64)),
            "memory.keys": ("float32", ("N", 4, 48)),
            **{tensor: ("float32", ("N", "K", width)) for tensor, width in PER_WORD.items()},
        },
    }
    assert tensors == expected[role]


@needs_converter
@pytest.mark.parametrize("name", [name for name in GRAPHS if name.endswith(".tflite")])
def test_tflite_graphs_are_listed_with_their_signatures(bundle: Path, name: str) -> None:
    role, precision, _ = name.split(".")
    entry = graph_of(bundle, name)
    assert (entry.engine, entry.precision) == ("tflite", precision)
    assert (entry.opset, entry.ir_version) == (None, None)
    assert entry.signatures == (("encoder",) if role == "encoder" else ("decoder_step_1", "decoder_step_5"))
    tensors = {tensor.name: (tensor.dtype, tensor.shape) for tensor in (*entry.inputs, *entry.outputs)}
    whole = "int8" if precision == "int8" else "float32"  # all of the encoder
    expected: dict[str, dict[str, tuple[str, tuple[int | str, ...]]]] = {
        "encoder": {
            "image": (whole, (1, 64, 64, 3)),
            "memory.features": (whole, (1, 4, 64)),
            "memory.keys": (whole, (1, 4, 48)),
            "state.h": (whole, (1, 96)),
            "state.c": (whole, (1, 96)),
        },
        "decoder_step": {
            "token": ("int64", (1, "K")),
            "memory.features": ("float32", (1, 4, 64)),
            "memory.keys": ("float32", (1, 4, 48)),
            **{tensor: ("float32", (1, "K", width)) for tensor, width in PER_WORD.items()},
        },
    }
    assert tensors == expected[role]


def test_no_lstm_and_no_vendor_operators_but_ranges_in_int8(bundle: Path) -> None:
    graphs = {name: onnx.load_model(bundle / name).graph for name in GRAPHS if name.endswith(".onnx")}
    operators = {name: [node.op_type for node in graph.node] for name, graph in graphs.items()}
    assert not any("LSTM" in found or "BatchNormalization" in found for found in operators.values())
    assert "QuantizeLinear" in operators["encoder.int8.onnx"] and "MatMulInteger" in operators["decoder_step.int8.onnx"]
    for name, found in operators.items():
        assert "int8" in name or not any("Quantize" in operator or "Integer" in operator for operator in found)
    # The product of one column, the attention's energy, stays as it is.
    assert operators["decoder_step.int8.onnx"].count("MatMul") == 2  # that, and alpha times features


@needs_converter
def test_the_int8_encoder_of_tflite_computes_in_int8_throughout(bundle: Path) -> None:
    interpreter = Interpreter(model_path=str(bundle / "encoder.int8.tflite"))
    types = {np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details() if len(tensor["shape"])}
    assert types <= {"int8", "int32"}  # int32: biases and shapes


@pytest.mark.parametrize(("engine", "precision"), SETS)
def test_every_set_of_graphs_captions_a_photo(bundle: Path, photos: Path, engine: str, precision: str) -> None:
    with load(bundle, engine=engine, precision=precision, threads=1) as captioner:
        assert (captioner.engine, captioner.precision, captioner.notes) == (engine, precision, ())
        caption = captioner.caption(photos / "003.jpg")
    assert len(caption.tokens) >= 1 and set(caption.tokens).isdisjoint({*SPECIAL_TOKENS, MARK})
    assert caption.log_prob < 0 and caption.attention.shape == (len(caption.tokens), 2, 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_fp32_graphs_say_what_torch_says(bundle: Path, checkpoint: Path, engine: str) -> None:
    saved = load_checkpoint(checkpoint)
    options = default_generation(saved.vocabulary).options(saved.vocabulary)
    images = [np.asarray(draw_photo(number)) for number in (0, 7, 20)]
    tensor = np.concatenate([to_tensor(image, preprocess_config(saved.dims)) for image in images])
    reference = TorchEngine(saved.model())
    expected = decode(reference, reference.encode(tensor), saved.vocabulary, options)
    with load(bundle, engine=engine, precision="fp32", threads=1) as captioner:
        captions = captioner.caption_batch(images)
    assert [caption.token_ids for caption in captions] == [ranked[0].token_ids for ranked in expected]
    assert [caption.log_prob for caption in captions] == pytest.approx([r[0].log_prob for r in expected], abs=1e-3)


def test_auto_takes_the_fastest_precision(bundle: Path) -> None:
    with load(bundle) as captioner:
        assert (captioner.engine, captioner.precision) == ("onnx", "int8")


def test_every_tensor_of_every_graph_has_a_parity_row(bundle: Path, checkpoint: Path) -> None:
    evaluation = document(bundle, "eval.json")
    rows = {(row["graph_set"], row["graph"], row["tensor"]): row for row in evaluation["parity"]}
    tensors = [(graph, tensor) for graph in TENSORS_OF for tensor in TENSORS_OF[graph]]
    assert set(rows) == {(name, *tensor) for name in SET_NAMES for tensor in tensors}
    for (name, _, _), row in rows.items():
        assert row["snr_db"] >= {"fp32": 80, "fp16": 40, "int8": 8}[name.split("-")[1]]
        assert row["max_difference"] <= 1e-3 or "fp32" not in name
    for engine in ENGINES:  # each was compared itself
        fp32, fp16, int8 = (
            rows[f"{engine}-{p}", "encoder", "memory.features"]["snr_db"] for p in ("fp32", "fp16", "int8")
        )
        assert fp32 > 90 > fp16 > 40 > int8
    assert evaluation["checkpoint_sha256"] == sha256(checkpoint)
    sizes = {name: (bundle / name).stat().st_size for name in GRAPHS}
    assert evaluation["bytes"] == {
        set_name(engine, p): sizes[f"encoder.{p}.{engine}"] + sizes[f"decoder_step.{p}.{engine}"] for engine, p in SETS
    }
    assert "results" not in evaluation and "protocol" not in evaluation  # no captions were given


def test_the_noise_of_every_int8_layer_is_measured(bundle: Path) -> None:
    noise = document(bundle, "eval.json")["layer_noise"]
    assert set(noise) == {f"{engine}-int8" for engine in ENGINES}
    for rows in noise.values():
        for graph, least in (("encoder", 49), ("decoder_step", 5)):  # EfficientNet-Lite0's convolutions alone are 49
            layers = [row["layer"] for row in rows if row["graph"] == graph]
            assert len(layers) >= least and layers == list(range(len(layers)))
        assert all(row["op"] and row["tensor"] and 0 < row["snr_db"] < 120 for row in rows)


def test_the_golden_record_is_what_the_runtime_gives(bundle: Path) -> None:
    record, opened = document(bundle, "golden/golden.json"), Bundle.open(bundle)
    assert tuple(record["graphs"]) == SET_NAMES
    assert record["tolerances"] == asdict(EVERYTHING.golden)
    image = to_tensor(bundle / record["photo"], opened.preprocess)
    assert record["input_sha256"] == tensor_digest(image)
    for engine, precision in SETS:
        found = record["graphs"][set_name(engine, precision)]
        assert (
            set(found["tensors"]) == {*TENSORS_OF["encoder"], "attention", "log_probs"}
            and len(found["tensors"]["log_probs"]) == 44
        )
        assert np.exp(found["tensors"]["log_probs"]).sum() == pytest.approx(1, abs=1e-3)
        with load(bundle, engine=engine, precision=precision) as captioner:
            assert found["engine"] == captioner.loaded.name
            features = captioner.loaded.encode(image).memory["features"]
            assert found["tensors"]["memory.features"] == pytest.approx(samples(features))
            for name, beam in (("greedy", 1), ("beam", 5)):
                caption, expected = captioner.caption(bundle / record["photo"], beam=beam), found["captions"][name]
                assert (caption.text, beam) == (expected["caption"], expected["beam"])
                assert caption.log_prob == pytest.approx(expected["log_prob"], abs=1e-3)
                assert MARK not in caption.tokens


def test_the_cost_of_every_graph_is_recorded(bundle: Path) -> None:
    facts = document(bundle, "graphs.json")
    assert tuple(facts) == GRAPHS
    for name, fact in facts.items():
        assert fact["parameters"] > 10_000 and fact["macs"] > 10_000 and sum(fact["ops"].values()) > 20
        role, precision, engine = name.split(".")
        # In INT8, ONNX Runtime's first convolution takes a channel of zeros beside the image's three.
        more = 0.02 if (role, precision, engine) == ("encoder", "int8", "onnx") else 0
        for key in ("parameters", "macs"):
            assert 0 <= fact[key] / facts[f"{role}.fp32.{engine}"][key] - 1 <= more


def test_the_card_and_the_ids_of_calibration(bundle: Path, photos: Path) -> None:
    calibration = document(bundle, "calibration.json")
    assert (calibration["source"], calibration["method"]) == ("calibration", "minmax")
    assert sorted(calibration["photos"]) == sorted(path.name for path in photos.iterdir())
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "chosen by its CIDEr-D of 45.30 on val, beam 5, at step 1,200 of its run" in card
    assert "Not evaluated" in card and "44 words" in card


def test_verify_and_inspect_know_the_bundle(bundle: Path) -> None:
    code, out, err = edgecap("verify", bundle)
    assert (code, err) == (0, []) and len(out) == 2 + len(SETS) and all(line.startswith("ok ") for line in out)
    code, out, err = edgecap("inspect", bundle)
    assert (code, err) == (0, []) and out[0] == Bundle.open(bundle).manifest.label
    assert all(name in out for name in GRAPHS)


def test_the_captions_of_val_are_compared(
    checkpoint: Path, bundle: Path, data: Path, dataset: CaptionDataset, tmp_path: Path, graphs_at_hand: None
) -> None:
    made, notes = tmp_path / "bundle", tmp_path / "notes.md"
    notes.write_text("For research.")
    arguments = ("export", checkpoint, "-o", made, "--data", data, "--name", "mine", "--notes", notes)
    code, out, err = edgecap_here(*arguments, *(() if len(ENGINES) > 1 else ("--onnx",)))
    assert code == 0 and len(out) == 1 and out[0].startswith(f"{made}  mine@")
    evaluation = document(made, "eval.json")
    protocol, results = evaluation["protocol"], evaluation["results"]
    missed = [name for name, scores in results.items() if not scores.get("passes gate", True)]
    assert [line for line in err if "misses" not in line] == progress(16, "tiny", captions=4)
    assert [line.split()[0] for line in err if "misses" in line] == missed
    assert protocol == {
        **protocol,
        "dataset": "tiny",
        "split": "val",
        "photos": 4,
        "beam": 5,
        "max_length": 20,
        "length_penalty": 0.7,
    }
    assert set(protocol["engines"]) == {"torch", *ENGINES}
    assert set(results) == {"torch-fp32", *SET_NAMES} and next(iter(results)) == "torch-fp32"
    card = (made / "MODEL_CARD.md").read_text()
    assert "# mine" in card and "For research." in card and "tiny, split val, 4 photos, beam 5" in card
    for name, scores in results.items():
        size = f"{evaluation['bytes'][name] / 1e6:.1f}" if name != "torch-fp32" else ""
        assert f"| {name} | {size} | {scores['BLEU-1']:.2f} |" in card
        row = [scores["quality"][figure] for figure in ("distinct captions", "distinct words", "seen in training")]
        cells = [f"{share['count']} of {share['of']} ({share['share']:.1%})" for share in (row[0], row[2])]
        assert f"| {name} | {cells[0]} | {row[1]} | {cells[1]} |" in card and row[0]["of"] == row[2]["of"] == 4
    assert not (made / "confidence.json").exists()  # four photos calibrate nothing
    for name in SET_NAMES:
        engine, precision = name.split("-")
        scores, origin = results[name], "torch-fp32" if precision == "fp32" else f"{engine}-fp32"
        assert scores["against"] == origin
        assert scores["CIDEr-D change"] == pytest.approx(scores["CIDEr-D"] - results[origin]["CIDEr-D"], abs=1e-3)
        assert 4 * scores["identical captions"] + sum(scores["first diverging step"].values()) == 4
        assert 0 <= scores["identical greedy captions"] <= 1
        if precision == "fp32":
            assert (scores["identical captions"], scores["passes gate"]) == (1, True)
        assert Bundle.open(made).graph_set(engine, precision).passes_gate is scores["passes gate"]
    assert set(document(made, "calibration.json")["photos"]) == {photo.id for photo in dataset.split("train")}
    code, out, err = edgecap_here("inspect", made)
    assert code == 0 and any(line.startswith("torch-fp32 ") for line in out)


@pytest.mark.parametrize("engine", ENGINES)
def test_auto_avoids_a_precision_whose_captions_miss_the_gate(
    checkpoint: Path, dataset: CaptionDataset, tmp_path: Path, graphs_at_hand: None, engine: str
) -> None:
    gate = CaptionGate(max_cider_drop=1000, min_identical=0, int8_min_identical=1.5)  # more than all: INT8 misses it
    recipe = replace(EVERYTHING, engines=(engine,), gate=gate, confidence_photos=4)
    lines: list[str] = []
    request = ExportRequest(
        checkpoint,
        tmp_path / "bundle",
        recipe,
        calibration=from_datasets(Mixture.of(dataset), recipe),
        evaluate_on=Mixture.of(dataset),
    )
    made = export_bundle(request, lines.append)
    (said,) = (line for line in lines if "gate" in line)
    assert said.startswith(f"{engine}-int8 misses its caption gate: against {engine}-fp32: CIDEr-D ")
    assert lines[-2:] == [said, "writing the bundle"]
    passed = {graphs.name: graphs.passes_gate for graphs in made.manifest.graph_sets}
    assert passed == {set_name(engine, precision): precision != "int8" for precision in PRECISIONS}
    assert document(made.path, "recipe.json")["gate"]["int8_min_identical"] == 1.5
    assert made.confidence is not None and made.confidence.right == MEANING  # as many photos as the recipe asks for
    assert list(made.confidence.sets) == [set_name(engine, name) for name in PRECISIONS]
    assert (made.confidence.protocol["dataset"], made.confidence.protocol["photos"]) == ("tiny", 4)
    with load(made.path) as captioner:
        assert captioner.precision == "fp16" and captioner.calibration == made.confidence.sets[f"{engine}-fp16"]
    with load(made.path, precision="int8") as captioner:  # it can still be asked for
        assert captioner.precision == "int8"


@pytest.mark.parametrize(
    ("choice", "sets"),
    [
        (("--onnx", "--int8"), ["onnx-int8"]),
        (("--onnx", "--fp32", "--fp16"), ["onnx-fp16", "onnx-fp32"]),
        pytest.param(("--tflite", "--fp16"), ["tflite-fp16"], marks=needs_converter),
        pytest.param(("--tflite", "--int8", "--fp32"), ["tflite-int8", "tflite-fp32"], marks=needs_converter),
        pytest.param(("--onnx", "--tflite", "--fp16"), ["onnx-fp16", "tflite-fp16"], marks=needs_converter),
        pytest.param(("--int8",), ["onnx-int8", "tflite-int8"], marks=needs_converter),
        pytest.param(("--fp32",), ["onnx-fp32", "tflite-fp32"], marks=needs_converter),
    ],
)
def test_flags_choose_what_the_bundle_carries(
    checkpoint: Path, photos: Path, old: Path, graphs_at_hand: None, choice: tuple[str, ...], sets: list[str]
) -> None:
    calibration = ("--calibration", photos) if "--int8" in choice else ()
    code, _, err = edgecap_here("export", checkpoint, "-o", old, *choice, *calibration)
    assert code == 0
    engines = list(dict.fromkeys(name.split("-")[0] for name in sets))
    measured = [name for name in SET_NAMES if name in sets or name in {f"{engine}-fp32" for engine in engines}]
    carried = {f"{role}.{name.split('-')[1]}.{name.split('-')[0]}" for name in sets for role in TENSORS_OF}
    others = {*DOCUMENTS, *GOLDEN, "MODEL_CARD.md", MANIFEST, *(["calibration.json"] if calibration else [])}
    assert set(contents(old)) == carried | others  # and nothing of the bundle that was there
    assert Bundle.open(old).manifest.name == "plus" and [path.name for path in old.parent.iterdir()] == ["bundle"]
    assert list(document(old, "golden/golden.json")["graphs"]) == sets
    assert set(document(old, "graphs.json")) == carried
    evaluation = document(old, "eval.json")
    assert set(evaluation["bytes"]) == set(measured)  # what the others were made from is compared with torch too
    assert {row["graph_set"] for row in evaluation["parity"]} == set(measured)
    assert list(evaluation["layer_noise"]) == [name for name in sets if "int8" in name]
    recipe = document(old, "recipe.json")
    assert recipe["engines"] == engines and {f"--{name}" for name in recipe["precisions"]} == {
        flag for flag in choice if flag not in ("--onnx", "--tflite")
    }
    assert "fp32 ONNX graphs" in err and ("fp32 TFLite graphs" in err) == ("tflite" in engines)
    assert any(line.startswith("fp16 ") for line in err) == ("--fp16" in choice)
    assert any(line.startswith("int8 ") for line in err) == ("--int8" in choice)


@pytest.mark.parametrize(
    ("flags", "asked"), [(("--int8",), "--int8"), ((), "INT8, which --fp32 and --fp16 would leave out,")]
)
def test_int8_without_photos_is_wrong_usage(checkpoint: Path, old: Path, flags: tuple[str, ...], asked: str) -> None:
    before = contents(old)
    code, out, err = edgecap_here("export", checkpoint, "-o", old, *flags)
    assert (code, out) == (2, [])
    assert err[-1] == f"Error: {asked} needs photos to calibrate on: name some with --data or --calibration"
    assert contents(old) == before


def test_after_a_killed_export_the_next_one_tidies_up_and_makes_the_same_bundle(
    checkpoint: Path, bundle: Path, photos: Path, data: Path, old: Path, tmp_path: Path
) -> None:
    killed = signalled(signal.SIGKILL, "fp16 ONNX graphs", bundle, checkpoint, old, data, tmp_path / "killed")
    assert killed.code == -signal.SIGKILL and len(list(old.parent.iterdir())) == 2
    scratch = tmp_path / "scratch"
    run = hurried("fp16 ONNX graphs", bundle, checkpoint, old, "--calibration", photos, scratch=scratch)
    assert run.code == 0, run.err
    assert [path.name for path in old.parent.iterdir()] == ["bundle"]
    assert {name: content == (bundle / name).read_bytes() for name, content in contents(old).items()} == dict.fromkeys(
        contents(bundle), True
    )
    assert Bundle.open(old).manifest.bundle_id == Bundle.open(bundle).manifest.bundle_id


def test_an_empty_directory_and_a_link_to_one_can_be_targets(
    checkpoint: Path, tmp_path: Path, graphs_at_hand: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fp32 = replace(EVERYTHING, engines=("onnx",), precisions=("fp32",))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):  # onto nothing, then onto a bundle
        export_bundle(ExportRequest(checkpoint, tmp_path / "link", fp32), quiet)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / MANIFEST).is_file()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export_bundle(ExportRequest(checkpoint, Path(), fp32), quiet)
    assert Bundle.open(tmp_path / "here").manifest.preset == "plus"
