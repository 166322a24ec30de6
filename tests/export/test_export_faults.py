"""Every way for an export to fail says why in one line, and leaves the bundle that was there as it was."""

from __future__ import annotations

import contextlib
import mmap
import re
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import edgecap_here
from exported import (
    CAN_CONVERT,
    ENGINES,
    EVERYTHING,
    STAGES,
    Run,
    contents,
    hurry,
    quiet,
    signalled,
)
from tiny_bundle import write_tiny_bundle

from edgecap.architectures.checkpoint import load_checkpoint, save_checkpoint
from edgecap.architectures.lstm.graphs import step_spec
from edgecap.architectures.network import CaptionNetwork
from edgecap.architectures.torch_engine import TorchEngine
from edgecap.errors import ExportError
from edgecap.export.compress.calibration import from_folder
from edgecap.export.exporter import ExportRequest, export_bundle
from edgecap.export.graphs.torch_to_onnx import export_graph
from edgecap.export.proof.parity import check_parity
from edgecap.export.recipe import ExportRecipe, Tolerances
from edgecap.export.variant import Compression, Variant
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.engines.engine import Encoded, FloatArray

pytestmark = pytest.mark.usefixtures("one_torch_thread")

FP32 = ("--onnx", "--fp32")
EVERY_GRAPH = () if CAN_CONVERT else ("--onnx",)
SPARE = 128 * 1024  # for the tiny bundle and some documents, but not for the golden photo

# Files in the order in which they are made.
MADE = tuple(
    name
    for name in (
        *("encoder.fp32.onnx", "decoder_step.fp32.onnx", "encoder.fp32.tflite", "decoder_step.fp32.tflite"),
        *("encoder.rounded.onnx", "encoder.int8.onnx", "decoder_step.rounded.onnx", "decoder_step.int8.onnx"),
        *("encoder.fp16.onnx", "decoder_step.fp16.onnx", "encoder.int8.tflite", "decoder_step.int8.tflite"),
        *("encoder.fp16.tflite", "decoder_step.fp16.tflite", "golden/astronaut.png"),
    )
    if CAN_CONVERT or not name.endswith(".tflite")
)
STAGES_THAT_FILL_THE_DISK = {
    "encoder.fp32.onnx": "fp32 ONNX graphs",
    "decoder_step.fp32.tflite": "fp32 TFLite graphs",
    "encoder.fp16.onnx": "fp16 ONNX graphs",
    "encoder.rounded.onnx": "int8 ONNX graphs",
    "encoder.int8.onnx": "int8 ONNX graphs",
    "golden/astronaut.png": "writing the bundle",
}


def unchanged(target: Path, before: dict[str, bytes]) -> bool:
    """Whether a bundle is as it was, and nothing else is in its folder."""
    return contents(target) == before and [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_or_interrupted_export_leaves_the_old_bundle(
    checkpoint: Path, bundle: Path, data: Path, tmp_path: Path, stage: str
) -> None:
    def stopped_by(number: signal.Signals) -> Run:
        target = write_tiny_bundle(tmp_path / number.name / "bundle")
        return signalled(number, stage, bundle, checkpoint, target, data, tmp_path / f"{number.name}.scratch")

    with ThreadPoolExecutor() as both:
        killed, interrupted = both.map(stopped_by, (signal.SIGKILL, signal.SIGINT))
    before = contents(write_tiny_bundle(tmp_path / "again"))
    assert killed.code == -signal.SIGKILL
    assert contents(killed.target) == before and Bundle.open(killed.target).manifest.name == "tiny-test"
    # What it had begun lies beside it, hidden, until the next export.
    assert {path.name.partition("-")[0] for path in killed.target.parent.iterdir()} == {"bundle", ".bundle.export"}
    if "TFLite" in stage:  # the conversion has died with it, and not of its own end
        assert not list(killed.target.parent.glob(f".*/encoder{STAGES[stage]}"))
    # CPython dies of the signal itself when the interrupt came within an exec() of text; a shell calls both 130.
    assert interrupted.code in (130, -signal.SIGINT)
    # Where the machine is busy, the interrupt comes a stage late: lines of progress, but none of an error.
    assert interrupted.out == [] and not [line for line in interrupted.err if "Error" in line or "Traceback" in line]
    assert unchanged(interrupted.target, before)
    assert {path.name.partition("_")[0] for path in interrupted.scratch.iterdir()} <= {"torchinductor"}


def test_an_interrupt_that_a_library_swallows_ends_the_export_at_the_next_stage(
    checkpoint: Path, old: Path, graphs_at_hand: None
) -> None:
    lines = []

    def say(line: str) -> None:
        lines.append(line)
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    before = contents(old)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(ExportRequest(checkpoint, old, ExportRecipe(("onnx",), ("fp32",))), say)
    assert lines == ["fp32 ONNX graphs"] and unchanged(old, before)


@pytest.mark.parametrize("graph", [graph for graph in MADE if graph in STAGES_THAT_FILL_THE_DISK])
def test_a_disk_that_is_full_is_said_in_one_line(
    checkpoint: Path,
    bundle: Path,
    photos: Path,
    disk: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    graph: str,
) -> None:
    """The disk takes what is made before ``graph``, and a little more."""
    before_it = [bundle / name.replace("rounded", "fp32") for name in MADE[: MADE.index(graph)]]
    room = SPARE + sum(-(-path.stat().st_size // mmap.PAGESIZE) * mmap.PAGESIZE for path in before_it)
    target = write_tiny_bundle(disk(f"size={room}") / "bundle")
    before = contents(target)
    hurry(bundle, monkeypatch, graph)
    code, out, err = edgecap_here("export", checkpoint, "-o", target, *EVERY_GRAPH, "--calibration", photos)
    assert (code, out) == (1, []) and err[-2].startswith(STAGES_THAT_FILL_THE_DISK[graph])
    assert re.fullmatch(r"edgecap: .*\bNo space left on device.*", err[-1])
    assert str(target) in err[-1] or f" of {graph.partition('.')[0]}" in err[-1]
    assert unchanged(target, before)


def test_a_disk_that_takes_no_more_files_is_said_in_one_line(
    checkpoint: Path, old: Path, disk: Callable[[str], Path], graphs_at_hand: None
) -> None:
    taken = len(list(old.parent.rglob("*"))) + 1  # the disk itself is one
    target = write_tiny_bundle(disk(f"nr_inodes={taken}") / "bundle")
    before = contents(target)
    for free in range(4):  # the export's folder, two graphs, and the folder of the bundle
        disk(f"remount,nr_inodes={taken + free}")
        code, out, err = edgecap_here("export", checkpoint, "-o", target, *FP32)
        assert (code, out) == (1, [])
        assert err[-1] == f"edgecap: {target}: cannot be written: No space left on device"
        assert unchanged(target, before)


def test_a_disk_that_is_read_only_is_said_in_one_line(checkpoint: Path, disk: Callable[[str], Path]) -> None:
    target = write_tiny_bundle(disk("size=1m") / "bundle")
    before = contents(target)
    disk("remount,ro")
    code, out, err = edgecap_here("export", checkpoint, "-o", target, *FP32)
    assert (code, out, err) == (1, [], [f"edgecap: {target}: cannot be written: Read-only file system"])
    assert unchanged(target, before)


def test_a_wrong_target_is_named(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a letter")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    before = contents(tmp_path)
    for target, problem in (
        (tmp_path / "file", "is a file: name a directory for the bundle"),
        (tmp_path / "file" / "bundle", "cannot be written: File exists"),
        (tmp_path / "letters", "holds other files and is no bundle: name another directory"),
    ):
        code, out, err = edgecap_here("export", checkpoint, "-o", target, *FP32)
        assert (code, out, err) == (1, [], [f"edgecap: {target}: {problem}"])
    assert contents(tmp_path) == before and len(list(tmp_path.iterdir())) == 2


def test_a_wrong_checkpoint_is_named(checkpoint: Path, old: Path, tmp_path: Path) -> None:
    before = contents(old)
    torn, unknown, none = (tmp_path / f"{name}.safetensors" for name in ("torn", "unknown", "none"))
    torn.write_bytes(checkpoint.read_bytes()[:-1000])
    saved = load_checkpoint(checkpoint)
    save_checkpoint(unknown, replace(saved, dims=replace(saved.dims, preset="mega")), half=True)
    for path, problem, *options in (
        (torn, r"is torn or not a safetensors file: .*"),
        (unknown, r"is of the unknown preset 'mega' \(known: base, tiny, plus, large, large-lite2, large-lite3\)"),
        (none, r"no such checkpoint file"),
        (checkpoint, r"is of preset 'plus', not 'base'", "--preset", "base"),
    ):
        code, out, (line,) = edgecap_here("export", path, "-o", old, *FP32, *options)
        assert (code, out) == (1, []) and re.fullmatch(rf"edgecap: {re.escape(str(path))}: {problem}", line)
        assert unchanged(old, before)


def test_wrong_usage_and_wrong_data_are_one_line(checkpoint: Path, old: Path, tmp_path: Path) -> None:
    before = contents(old)
    code, out, err = edgecap_here("export", checkpoint, "-o", old, *FP32, "--data", tmp_path / "nowhere")
    assert (code, out) == (1, [])
    assert err == [f"edgecap: {tmp_path / 'nowhere'}: no such captions file or dataset folder"]
    code, out, err = edgecap_here("export", checkpoint, *FP32)
    assert (code, out) == (2, []) and "'-o'" in err[-1]
    assert unchanged(old, before)


@pytest.mark.parametrize("absent", ["onnx2tf", "tensorflow"])
def test_without_the_converter_the_extra_is_named_and_onnx_graphs_are_made_all_the_same(
    checkpoint: Path, old: Path, graphs_at_hand: None, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    before = contents(old)
    for choice in ((), ("--tflite",)):
        code, out, (line,) = edgecap_here("export", checkpoint, "-o", old, "--fp32", *choice)
        assert (code, out) == (1, []) and " is not installed" in line and "edgecap[export]" in line
        assert absent in line or not CAN_CONVERT
        assert unchanged(old, before)
    assert edgecap_here("export", checkpoint, "-o", old, *FP32)[0] == 0
    assert Bundle.open(old).precisions("onnx") == ("fp32",)


def test_int8_without_photos_is_refused(checkpoint: Path, old: Path) -> None:
    before = contents(old)
    with pytest.raises(ExportError, match=r"calibration of encoder\.int8: no photos were given"):
        export_bundle(ExportRequest(checkpoint, old, EVERYTHING), quiet)
    assert unchanged(old, before)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("tolerances", "precision", "graph", "problem"),
    [
        (Tolerances(fp32_max_difference=0), "fp32", "encoder", r"memory\.features is off by \d\S*, 0 is allowed"),
        (Tolerances(fp16_min_snr=90), "fp16", "encoder", r"memory\.features at \d+\.\d dB, 90 are needed"),
        (Tolerances(encoder_int8_min_snr=90), "int8", "encoder", r"memory\.features at \d+\.\d dB, 90 are needed"),
        (Tolerances(step_int8_min_snr=200), "int8", "decoder_step", r"log_probs at \d+\.\d dB, 200 are needed"),
    ],
)
def test_a_graph_beyond_its_tolerance_fails_the_export(
    checkpoint: Path,
    photos: Path,
    old: Path,
    graphs_at_hand: None,
    engine: str,
    tolerances: Tolerances,
    precision: str,
    graph: str,
    problem: str,
) -> None:
    before = contents(old)
    recipe = replace(EVERYTHING, engines=(engine,), precisions=(precision,), tolerances=tolerances)
    request = ExportRequest(checkpoint, old, recipe, calibration=from_folder(photos, recipe))
    with pytest.raises(ExportError, match=rf"^export failed at parity of {graph} of {engine}-{precision}: {problem}$"):
        export_bundle(request, quiet)
    assert unchanged(old, before)


@pytest.mark.parametrize(
    ("function", "names", "where"),
    [
        ("torch.onnx.export", ".fp32.onnx", "torch.onnx of encoder"),
        ("edgecap.export.compress.quantization.quantize_static", ".int8.onnx", r"quantization of encoder\.int8\.onnx"),
        (
            "edgecap.export.compress.quantization.quantize_dynamic",
            ".int8.onnx",
            r"quantization of decoder_step\.int8\.onnx",
        ),
    ],
)
def test_a_library_that_fails_is_named_with_its_graph(
    checkpoint: Path,
    photos: Path,
    bundle: Path,
    old: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    names: str,
    where: str,
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("no such\noperator")

    hurry(bundle, monkeypatch, names)
    monkeypatch.setattr(function, fail)
    before = contents(old)
    code, out, err = edgecap_here("export", checkpoint, "-o", old, "--onnx", "--int8", "--calibration", photos)
    assert (code, out) == (1, []) and re.fullmatch(f"edgecap: export failed at {where}: no such operator", err[-1])
    assert unchanged(old, before)


def test_a_graph_that_cannot_be_simplified_is_named(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(model: object, **options: object) -> None:
        raise RuntimeError("no shape")

    model = load_checkpoint(checkpoint).model()
    for simplify, problem in (
        (fail, "no shape"),
        (lambda model, **options: (model, False), "the simplified graph gives other outputs"),
    ):
        monkeypatch.setattr("onnxsim.simplify", simplify)
        with pytest.raises(ExportError, match=f"export failed at onnxsim of decoder_step: {problem}"):
            export_graph(step_spec(model), tmp_path / "step.onnx", 18)


class Altered(TorchEngine):
    """A back end with one output of the encoder replaced."""

    def __init__(self, model: CaptionNetwork, name: str, value: float) -> None:
        super().__init__(model)
        self.name_of_output, self.value = name, value

    def encode(self, images: FloatArray) -> Encoded:
        encoded = super().encode(images)
        changed = np.full_like(encoded.memory[self.name_of_output], self.value)
        return replace(encoded, memory={**encoded.memory, self.name_of_output: changed})


@pytest.mark.parametrize("graphs", ["onnx-fp32", "tflite-fp16", "onnx-int8"])
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_an_output_that_is_dead_or_no_number_has_no_parity(checkpoint: Path, graphs: str, value: float) -> None:
    model = load_checkpoint(checkpoint).model()
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)
    reference, broken = TorchEngine(model), Altered(model, "keys", value)
    engine, _, precision = graphs.partition("-")
    variant = Variant(engine, precision, dict.fromkeys(("encoder", "decoder_step"), Compression(precision)))
    assert len(check_parity(reference, reference, variant, images, Tolerances())) == 8
    with pytest.raises(ExportError, match=rf"parity of encoder of {graphs}: memory\.keys "):
        check_parity(reference, broken, variant, images, Tolerances())
