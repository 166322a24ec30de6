"""What a sweep found is what ``auto`` takes afterwards, on the same machine, with the same engines and bundle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import edgecap_here
from edited_bundle import edit_manifest

from edgecap.bench import report
from edgecap.bench.others import OthersWatch
from edgecap.bench.sweep import thread_counts
from edgecap.runtime import load
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.machine import tuning
from edgecap.runtime.machine.tuning import Measurement, fastest, remember

FEW = ("--captions", 5)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where measurements are kept in this test."""
    path = tmp_path / "config" / "tuning.json"
    monkeypatch.setenv("EDGECAP_TUNING", str(path))
    monkeypatch.setattr(report, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(OthersWatch, "cores", lambda watch: 0.0)
    return path


def bundle_id(path: Path) -> str:
    return Bundle.open(path).manifest.bundle_id


def test_a_sweep_tries_everything_and_auto_follows_it(
    two_runtimes: Path, photo: Callable[..., Path], file: Path, tmp_path: Path
) -> None:
    target = tmp_path / "bench.json"
    arguments = ("--bundle", two_runtimes, "--threads", "1,2", "--sweep", "--json", target, *FEW)
    code, out, _ = edgecap_here("bench", photo("red.jpg", "red"), *arguments)
    assert code == 0
    runs = json.loads(target.read_text())["runs"]
    tried = {(run["engine"], run["precision"], run["threads"]) for run in runs}
    assert tried == {(b, p, t) for b in ("onnx", "tflite") for p in ("fp32", "int8") for t in (1, 2)}
    best = min(runs, key=lambda run: run["latency"]["total"]["p50"])
    plural = "s" if best["threads"] > 1 else ""
    assert out[-1].startswith(f"fastest: {best['engine']} {best['precision']} with {best['threads']} thread{plural}, ")
    assert out[-1].endswith(f"({file})")
    with load(two_runtimes) as captioner:
        assert (captioner.engine, captioner.precision, captioner.threads) == (
            best["engine"], best["precision"], best["threads"],
        )  # fmt: skip


def test_what_is_given_is_kept_and_the_rest_is_the_fastest(two_runtimes: Path, file: Path) -> None:
    measured = [
        Measurement("onnx", "fp32", 1, 3.0),
        Measurement("onnx", "int8", 2, 4.0),
        Measurement("tflite", "fp32", 2, 2.0),
    ]
    assert remember(bundle_id(two_runtimes), measured) == file

    def chosen(**given: Any) -> tuple[str, str, int]:
        with load(two_runtimes, **given) as captioner:
            return captioner.engine, captioner.precision, captioner.threads

    assert chosen() == ("tflite", "fp32", 2)
    assert chosen(engine="onnx") == ("onnx", "fp32", 1)
    assert chosen(threads=1) == ("onnx", "fp32", 1)
    assert chosen(precision="int8") == ("onnx", "int8", 2)
    assert chosen(engine="tflite", precision="int8", threads=3) == ("tflite", "int8", 3)
    assert chosen(engine="tflite", precision="int8")[:2] == ("tflite", "int8")  # never measured


def test_measurements_of_another_machine_engine_or_bundle_do_not_count(
    tiny_bundle: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = bundle_id(tiny_bundle)
    remember(identity, [Measurement("onnx", "fp32", 7, 1.0)])
    found = fastest(identity)
    assert found is not None and found.threads == 7 and fastest("other") is None
    monkeypatch.setattr(tuning, "conditions", lambda: {"machine": "other", "engines": {}})
    assert fastest(identity) is None


def test_other_bundles_measurements_stay(file: Path) -> None:
    remember("one", [Measurement("onnx", "fp32", 1, 1.0)])
    remember("two", [Measurement("onnx", "fp32", 2, 1.0)])
    remember("one", [Measurement("onnx", "fp32", 3, 1.0)])
    one, two = fastest("one"), fastest("two")
    assert (
        one
        and two
        and (one.threads, two.threads) == (3, 2)
        and [path.name for path in file.parent.iterdir()] == [file.name]
    )


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"ID": 3}', b'{"ID": {"conditions": {}, "measured": 1}}', b"[" * 100_000, b"\xff"]
)
def test_a_broken_file_is_no_reason_not_to_caption(tiny_bundle: Path, file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content.replace(b"ID", bundle_id(tiny_bundle).encode()))
    with load(tiny_bundle) as captioner:
        assert captioner.precision == "int8"
    remember("one", [Measurement("onnx", "fp32", 1, 1.0)])
    assert fastest("one") is not None


@pytest.mark.parametrize("changes", [{"threads": "2"}, {"milliseconds": float("nan")}, {"precision": None}])
def test_a_measurement_that_is_none_is_not_believed(file: Path, changes: dict[str, Any]) -> None:
    remember("one", [Measurement("onnx", "fp32", 1, 1.0)])
    document = json.loads(file.read_bytes())
    document["one"]["measured"][0].update(changes)
    file.write_text(json.dumps(document))
    assert fastest("one") is None


def test_a_busy_machine_is_told_and_its_times_are_not_kept(
    tiny_bundle: Path, photo: Callable[..., Path], file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target = tmp_path / "bench.json"
    arguments = ("bench", photo("red.jpg", "red"), "--bundle", tiny_bundle, "--threads", "1", "--json", target, *FEW)
    for cores, busy in ((0.2, False), (1.5, True), (None, False)):
        monkeypatch.setattr(OthersWatch, "cores", lambda watch, cores=cores: cores)
        file.unlink(missing_ok=True)
        code, out, err = edgecap_here(*arguments, "--sweep", "--precision", "fp32")
        warned = any(line.startswith("edgecap: the machine was busy: others used 1.5 of ") for line in err)
        assert (code, warned, file.exists()) == (0, busy, not busy)
        assert (out[-1] == "nothing is kept of a busy machine") == busy
        assert json.loads(target.read_text())["runs"][0]["others_cores"] == cores


def test_what_others_use_is_what_the_machine_does_beside_this_process(tmp_path: Path) -> None:
    stat = tmp_path / "proc" / "stat"
    stat.parent.mkdir()
    stat.write_text("cpu  100 10 50 9000 5 1 1 7 3 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    watch = OthersWatch(tmp_path)
    stat.write_text("cpu  100000 10 90050 9000 900 1 1 7 3 0\n")
    assert (watch.cores() or 0) > 1
    stat.write_text("cpu  100 10 50 99999 99999 1 1 7 3 0\n")  # idle, and waiting for a disk
    assert watch.cores() == 0
    for content in ("", "cpu", "cpu a b c d e f g h", "intr 1 2 3 4 5 6 7 8 9"):
        stat.write_text(content)
        assert watch.cores() is None and OthersWatch(tmp_path).cores() is None
    if Path("/proc/stat").exists():
        assert OthersWatch().cores() is not None


def test_graphs_that_missed_their_gate_are_not_tried(
    own_bundle: Path, photo: Callable[..., Path], file: Path, tmp_path: Path
) -> None:
    def miss(document: dict[str, Any]) -> None:
        (int8,) = (graphs for graphs in document["graph_sets"] if graphs["name"] == "onnx-int8")
        int8["passes_gate"] = False

    edit_manifest(own_bundle, miss)
    target = tmp_path / "bench.json"
    arguments = ("--bundle", own_bundle, "--threads", "1", "--sweep", "--json", target, *FEW)
    assert edgecap_here("bench", photo("red.jpg", "red"), *arguments)[0] == 0
    assert [run["precision"] for run in json.loads(target.read_text())["runs"]] == ["fp32"]
    code, _, err = edgecap_here("bench", photo("red.jpg", "red"), *arguments, "--precision", "int8")
    assert code == 2 and "no graphs to try: none of an engine that is installed passed its gate" in err[-1]


def test_a_place_that_cannot_be_written_is_named(
    tiny_bundle: Path, photo: Callable[..., Path], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.parent.write_text("a file, not a folder")
    arguments = ("--bundle", tiny_bundle, "--threads", "1", "--precision", "fp32", "--sweep", *FEW)
    code, out, err = edgecap_here("bench", photo("red.jpg", "red"), *arguments)
    assert code == 1 and str(file.parent) in err[-1] and any(line.startswith("onnxruntime") for line in out)


def test_the_file_is_in_the_users_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGECAP_TUNING")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert tuning.tuning_file() == tmp_path / "edgecap" / "tuning.json"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tuning.tuning_file() == tmp_path / ".config" / "edgecap" / "tuning.json"


def test_thread_counts_double_up_to_the_cores() -> None:
    assert [thread_counts(cores) for cores in (1, 2, 3, 4, 6)] == [(1,), (1, 2), (1, 2, 3), (1, 2, 4), (1, 2, 4, 6)]


def test_threads_may_be_auto(tiny_bundle: Path, photo: Callable[..., Path]) -> None:
    for text, status in (("auto", 0), ("2", 0), ("0", 2), ("many", 2)):
        arguments = ("--bundle", tiny_bundle, "--threads", text)
        assert edgecap_here("caption", photo("red.jpg", "red"), *arguments)[0] == status
