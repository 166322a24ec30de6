"""An architecture that nothing of the project knows goes from training to captions in both engines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import ENVIRONMENT
from exported import CAN_CONVERT
from places import TESTS
from tiny_dataset import write_tiny_dataset

SECOND = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join((str(TESTS / "second"), ENVIRONMENT["PYTHONPATH"]))}
ENGINES = ("onnx", "tflite") if CAN_CONVERT else ("onnx",)
SETS = [(engine, precision) for engine in ENGINES for precision in ("int8", "fp16", "fp32")]
STAGES = ("language", "frozen", "end_to_end", "self_critical")
CACHE = {f"{kind}{layer}" for kind in ("keys", "values") for layer in (0, 1)}


def second(*arguments: object) -> list[str]:
    """Lines of stdout of ``edgecap``, where the second architecture is known."""
    command = [sys.executable, "-m", "edgecap", *map(str, arguments)]
    run = subprocess.run(command, env=SECOND, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("second") / "data", train=24, val=4)


@pytest.fixture(scope="module")
def checkpoint(data: Path) -> Path:
    """A few steps of every stage, from random weights."""
    epochs = [f"--set={stage}.epochs=1" for stage in STAGES]
    options = ("--backbone-weights", "none", "--set", "min_count=1", "--batch-size", 4, *epochs)
    second("train", "--preset", "second", "--data", data, "-o", data.parent / "run", *options)
    return data.parent / "run" / "best.safetensors"


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, data: Path) -> Path:
    """All graph sets that can be made here; parity with torch has been found of each."""
    engines = [f"--{engine}" for engine in ENGINES]
    second("export", checkpoint, "-o", checkpoint.parent / "bundle", "--data", data, *engines)
    return checkpoint.parent / "bundle"


def test_the_log_has_every_stage(checkpoint: Path) -> None:
    log = (checkpoint.parent / "log.csv").read_text()
    assert all(f"\n{stage}," in log for stage in STAGES)


def test_every_set_does_what_it_did_where_it_was_exported(bundle: Path) -> None:
    lines = second("verify", bundle)
    assert all(line.startswith("ok ") for line in lines) and len(lines) == 2 + len(SETS)


@pytest.mark.parametrize(("engine", "precision"), SETS)
def test_every_set_captions_greedily_and_with_a_beam(bundle: Path, data: Path, engine: str, precision: str) -> None:
    photos = sorted((data / "images").iterdir())[:3]
    chosen = ("--bundle", bundle, "--engine", engine, "--precision", precision, "--json")
    for beam in (1, 5, 7):
        records = [json.loads(line) for line in second("caption", *photos, *chosen, "--beam", beam)]
        assert all(record["caption"] and record["engine"] == engine for record in records)
        assert len(records) == 3


def test_captions_of_fp32_are_those_of_torch(bundle: Path, checkpoint: Path, data: Path) -> None:
    """And their figures: eval runs a checkpoint and a bundle alike."""
    of_torch = second("eval", "--checkpoint", checkpoint, "--data", data, "--split", "val")
    for engine in ENGINES:
        chosen = ("--bundle", bundle, "--engine", engine, "--precision", "fp32")
        assert second("eval", *chosen, "--data", data, "--split", "val")[1:] == of_torch[1:]


def test_bench_doctor_and_inspect_take_it_as_any(bundle: Path, data: Path) -> None:
    photo = next((data / "images").iterdir())
    assert any("images/s" in line for line in second("bench", photo, "--bundle", bundle, "--captions", 5))
    assert any("golden photo" in line and line.startswith("ok ") for line in second("doctor", "--bundle", bundle))
    assert "  architecture  second, preset second" in second("inspect", bundle)


def test_its_encoder_is_not_bent(bundle: Path) -> None:
    """A class token is concatenated, and what a ReLU makes may be larger than 6: neither is taken for ours."""
    for precision in ("fp32", "int8"):
        kinds = [node.op_type for node in onnx.load_model(bundle / f"encoder.{precision}.onnx").graph.node]
        assert kinds.count("Concat") == 2 and "Clip" not in kinds


def test_a_state_is_ordered_by_the_search_and_may_begin_as_zeros(bundle: Path, data: Path) -> None:
    code = (
        "import sys; from edgecap.runtime import load; captioner = load(sys.argv[1], precision='fp32')\n"
        "caption = captioner.caption(sys.argv[2], beam=4)\n"
        "image = captioner.prepare(sys.argv[2]).tensor; encoded = captioner.loaded.encode(image)\n"
        "print(caption.attention, sorted(encoded.state), sum(abs(v).sum() for v in encoded.state.values()))\n"
    )
    photo = next((data / "images").iterdir())
    command = [sys.executable, "-c", code, str(bundle), str(photo)]
    run = subprocess.run(command, env=SECOND, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == f"None {sorted({*CACHE, 'position'})} 0.0"


def test_more_words_than_its_cache_holds_are_refused(bundle: Path, data: Path) -> None:
    photo = next((data / "images").iterdir())
    command = [sys.executable, "-m", "edgecap", "caption", photo, "--bundle", bundle, "--max-length", "21"]
    run = subprocess.run(command, env=SECOND, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.splitlines()[-1].endswith("max_length must be between 1 and 20, not 21")


def test_where_it_is_not_known_its_files_are_refused_in_a_line(bundle: Path, checkpoint: Path, data: Path) -> None:
    photo = next((data / "images").iterdir())
    export = ("export", checkpoint, "-o", data.parent / "other", "--onnx", "--fp32")
    for arguments in (("caption", photo, "--bundle", bundle), export):
        command = [sys.executable, "-m", "edgecap", *map(str, arguments)]
        run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
        (line,) = run.stderr.splitlines()
        assert run.returncode == 1 and re.search(
            r"unknown architecture 'second' \(known: lstm.*\): upgrade edgecap", line
        )


def test_a_mixed_set_is_one_like_others(bundle: Path, data: Path, tmp_path: Path) -> None:
    """INT8 where it is fast, fp32 where it is fine: two files that the bundle has already."""
    from edgecap.runtime.bundle import tasks

    tasks.ARCHITECTURES.setdefault("second", "0.1.0")
    try:
        from edited_bundle import edit_manifest

        target = tmp_path / "bundle"
        target.mkdir()
        for path in bundle.rglob("*"):
            if path.is_file():
                (target / path.relative_to(bundle)).parent.mkdir(exist_ok=True)
                (target / path.relative_to(bundle)).write_bytes(path.read_bytes())
        files = {"encoder": "encoder.int8.onnx", "decoder_step": "decoder_step.fp32.onnx"}
        mixed = {"name": "onnx-int8-fp32", "engine": "onnx", "graphs": files, "passes_gate": None}
        edit_manifest(target, lambda document: document["graph_sets"].append(mixed))
    finally:
        del tasks.ARCHITECTURES["second"]
    photo = next((data / "images").iterdir())
    (line,) = second("caption", photo, "--bundle", target, "--precision", "int8-fp32", "--json")
    record = json.loads(line)
    assert record["precision"] == "int8-fp32" and record["caption"]


def test_numpys_other_type_of_whole_numbers_reaches_litert() -> None:
    """ONNX Runtime gives it, and LiteRT knows it not."""
    from edgecap.runtime.engines.litert_engine import GraphTensor

    tensor = GraphTensor((1,), np.dtype(np.int64), 0.0, 0)
    assert tensor.numbers(np.zeros(1, "q")).dtype.char == np.dtype(np.int64).char
