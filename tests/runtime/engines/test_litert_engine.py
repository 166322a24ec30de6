"""LiteRT does what ONNX Runtime does on the tiny bundle, and what it refuses is named."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ENVIRONMENT, encoded, patchwork
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bundle import DIMS, Graphs, S, encoder_graph, graph_entry, loaded, step_graph
from tiny_tflite import edited

from edgecap.errors import EngineError, MissingExtraError, UnsupportedGraphError
from edgecap.runtime import Captioner, load
from edgecap.runtime.engines import litert_engine
from edgecap.runtime.engines.engine import Encoded, Engine, FloatArray, Step
from edgecap.runtime.engines.libraries import LITERT_LIBRARIES
from edgecap.runtime.engines.quiet_start import quiet_start

COLOURS = ("red", "lime", "blue", "black", "white")
PATCHWORK = list(patchwork(4))


@pytest.fixture(scope="module")
def engine(tflite_graphs: Graphs) -> Engine:
    return loaded("tflite", tflite_graphs["fp32"])


@pytest.fixture(scope="module")
def onnx_engine() -> Engine:
    return loaded("onnx", (encoder_graph(), step_graph()))


@pytest.fixture(scope="module")
def pair(two_runtimes: Path) -> Iterator[tuple[Captioner, Captioner]]:
    """The same bundle in ONNX Runtime and in LiteRT."""
    with (
        load(two_runtimes, engine="onnx", precision="fp32", threads=1) as one,
        load(two_runtimes, engine="tflite", precision="fp32", threads=1) as other,
    ):
        assert (one.engine, other.engine) == ("onnx", "tflite")
        yield one, other


def images(count: int, seed: int = 0, largest: float = 2.0) -> FloatArray:  # (N, 3, S, S)
    tensor: FloatArray = np.random.default_rng(seed).uniform(-largest, largest, (count, 3, S, S)).astype(np.float32)
    return tensor


def feeds(photos: int, hypotheses: int, seed: int) -> dict[str, Any]:
    """What a decoder step takes, random, and strided as the search leaves it."""
    rng = np.random.default_rng(seed)
    sizes = [DIMS[name] for name in ("locations", "hidden_dim", "feature_dim", "key_dim", "vocab_size")]
    locations, hidden, features, keys, words = sizes
    return {
        "token": rng.integers(0, words, (hypotheses, photos)).T,
        "state": {
            "h": rng.standard_normal((photos, 2 * hypotheses, hidden), np.float32)[:, ::2],
            "c": rng.standard_normal((photos, hypotheses, hidden), np.float32),
        },
        "memory": {
            "features": rng.standard_normal((photos, features, locations), np.float32).transpose(0, 2, 1),
            "keys": rng.standard_normal((photos, locations, keys), np.float32),
        },
    }


def arrays(made: Encoded | Step) -> dict[str, Any]:
    """All of it by name."""
    if isinstance(made, Encoded):
        return {**made.memory, **made.state}
    return {"log_probs": made.log_probs, "attention": made.attention, **made.state}


def assert_equal(one: Encoded | Step, other: Encoded | Step, tolerance: float = 1e-5) -> None:
    found = arrays(other)
    for name, value in arrays(one).items():
        assert (found[name].shape, found[name].dtype) == (value.shape, np.float32), name
        np.testing.assert_allclose(found[name], value, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("beam", [1, 3, 4, 6, 20])  # the signatures hold 1 and 4
def test_captions_are_those_of_onnx_runtime(pair: tuple[Captioner, Captioner], beam: int) -> None:
    photos = [*map(encoded, COLOURS), *PATCHWORK]
    for one, other in zip(*(captioner.caption_batch(photos, beam=beam) for captioner in pair), strict=True):
        assert (one.text, one.token_ids) == (other.text, other.token_ids)
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-5)
        np.testing.assert_allclose(one.attention, other.attention, atol=1e-5)
    alone = [pair[1].caption(photo, beam=beam) for photo in photos]
    assert alone == pair[1].caption_batch(photos, beam=beam)  # to the bit: photos never share a call


@settings(deadline=None, max_examples=60)
@given(photos=st.integers(1, 3), hypotheses=st.integers(1, 13), seed=st.integers(0, 2**32 - 1))
def test_a_step_is_that_of_onnx_runtime(
    engine: Engine, onnx_engine: Engine, photos: int, hypotheses: int, seed: int
) -> None:
    given_ = feeds(photos, hypotheses, seed)
    assert_equal(onnx_engine.step(**given_), engine.step(**given_))


@pytest.mark.parametrize("photos", [1, 3])
def test_encoded_photos_are_those_of_onnx_runtime(engine: Engine, onnx_engine: Engine, photos: int) -> None:
    assert_equal(onnx_engine.encode(images(photos)), engine.encode(images(photos)))


def test_int8_at_the_borders_of_a_graph_is_float32_outside(tflite_graphs: Graphs, engine: Engine) -> None:
    int8 = loaded("tflite", tflite_graphs["int8"], "int8")
    scale = 4 / 255  # of a photo's values -2 to 2
    assert_equal(engine.encode(images(3)), int8.encode(images(3)), tolerance=1.5 * scale)
    beyond = np.full((1, 3, S, S), 100, np.float32)
    beyond[:, 1] = -100
    features = int8.encode(beyond).memory["features"]  # (1, L, 3): no value wraps around
    np.testing.assert_allclose(features, np.broadcast_to([2, -2, 2], features.shape), atol=2 * scale)


def test_int8_captions(two_runtimes: Path) -> None:
    with load(two_runtimes, engine="tflite", threads=1) as captioner:
        assert captioner.precision == "int8" and captioner.notes == ()
        for colour, word in (("red", "red"), ("lime", "green"), ("black", "dark")):
            assert captioner.caption(encoded(colour)).text == f"A {word} photo."


def test_results_outlive_the_next_call(engine: Engine) -> None:
    first, given_ = engine.encode(images(1)), feeds(1, 4, seed=0)
    step = engine.step(**given_)
    before = [value.copy() for value in (*arrays(first).values(), *arrays(step).values())]
    engine.encode(images(1, seed=1))
    engine.step(**feeds(1, 4, seed=1))
    for value, copy in zip((*arrays(first).values(), *arrays(step).values()), before, strict=True):
        np.testing.assert_array_equal(value, copy)
    for value in arrays(step).values():
        value += 1  # and is the caller's to change


def test_threads_get_what_one_gets_alone(pair: tuple[Captioner, Captioner]) -> None:
    captioner = pair[1]
    asked = [(photo, beam) for photo in (*map(encoded, COLOURS), *PATCHWORK) for beam in (1, 3, 6)] * 4
    alone = [captioner.caption(photo, beam=beam) for photo, beam in asked]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda request: captioner.caption(request[0], beam=request[1]), asked))
    assert together == alone


def test_the_name_has_the_version(engine: Engine) -> None:
    import ai_edge_litert

    assert engine.name == f"ai-edge-litert {ai_edge_litert.__version__}"


def renamed(graph: bytes, old: str, new: str) -> bytes:
    """The graph with a signature, input or output of another name."""

    def edit(model: Any) -> None:
        for signature in model.signatureDefs:
            if signature.signatureKey == old.encode():
                signature.signatureKey = new.encode()
            for tensor in (*signature.inputs, *signature.outputs):
                if tensor.name == old.encode():
                    tensor.name = new.encode()

    return edited(graph, edit)


def test_graphs_of_another_form_are_refused(tflite_graphs: Graphs) -> None:
    encoder, step = tflite_graphs["fp32"]
    wrong = {
        (
            step,
            step,
        ): r"b: encoder has the signatures \['decoder_step_1', 'decoder_step_4'\], its manifest lists \['",
        (
            encoder,
            encoder,
        ): r"b: decoder_step has the signatures \['encoder'\], its manifest lists \['deco",
        (renamed(encoder, "encoder", "serve"), step): r"b: encoder has the signatures \['serve'\]",
        (
            renamed(encoder, "image", "picture"),
            step,
        ): r"b: encoder has the inputs \['picture'\], its manifest lists",
        (encoder, renamed(step, "attention", "beta")): r"b: decoder_step has the outputs \[.*'beta'.*\], its manifest ",
        (encoder, renamed(step, "decoder_step_4", "four")): r"b: decoder_step has the signatures .*'four'",
    }
    for graphs, problem in wrong.items():
        with pytest.raises(EngineError, match=problem) as caught:
            loaded("tflite", graphs)
        assert "\n" not in str(caught.value)


def test_tensors_of_other_types_and_sizes_are_refused(tflite_graphs: Graphs) -> None:
    problem = r"b: encoder has image as int8 \(1, 32, 32, 3\), its manifest lists float32 \(1, 32, 32, 3\)"
    with pytest.raises(EngineError, match=problem):
        loaded("tflite", tflite_graphs["int8"], "fp32")
    entry = graph_entry("encoder", "tflite")
    smaller = replace(entry, inputs=(replace(entry.inputs[0], shape=(1, 16, 16, 3)),))
    with pytest.raises(
        EngineError, match=r"has image as float32 \(1, 32, 32, 3\), its manifest lists .* \(1, 16, 16, 3\)"
    ):
        litert_engine.LiteRtGraph(tflite_graphs["fp32"][0], smaller, 1, "b: encoder")


def test_graphs_that_do_not_load_are_named(tflite_graphs: Graphs, capfd: pytest.CaptureFixture[str]) -> None:
    encoder, _ = tflite_graphs["fp32"]
    for garbage in (b"no graph", b"", bytes(10_000), encoder_graph()):
        with pytest.raises(UnsupportedGraphError, match="b: decoder_step: does not load in ai-edge-litert ") as caught:
            loaded("tflite", (encoder, garbage))
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_run_that_fails_is_one_line(engine: Engine, capfd: pytest.CaptureFixture[str]) -> None:
    before = engine.encode(images(1))
    with pytest.raises(EngineError, match=r"LiteRT failed: image has the shape \(1, 31, 31, 3\), not \(1, 32, 32, 3\)"):
        engine.encode(np.zeros((1, 3, 31, 31), np.float32))
    with pytest.raises(EngineError, match=r"LiteRT failed: .*type") as caught:
        engine.encode(images(1).astype(np.float64))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and capfd.readouterr().err == ""
    assert_equal(before, engine.encode(images(1)), tolerance=0)


def test_libraries_are_tried_in_order(tflite_graphs: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(LITERT_LIBRARIES) == ["ai_edge_litert", "tflite_runtime", "tensorflow"]
    absent = {"nowhere": "nowhere.interpreter"}
    monkeypatch.setattr(litert_engine, "LITERT_LIBRARIES", {**absent, **LITERT_LIBRARIES})
    assert loaded("tflite", tflite_graphs["fp32"]).name.startswith("ai-edge-litert ")
    monkeypatch.setattr(litert_engine, "LITERT_LIBRARIES", absent)
    with pytest.raises(MissingExtraError, match=r"LiteRT is not installed: .*edgecap\[tflite\]"):
        loaded("tflite", tflite_graphs["fp32"])


def test_a_library_that_does_not_import_is_passed_over_or_named(
    tflite_graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torn_litert.py").write_text("raise ImportError('libm.so.6: version `GLIBC_2.34` not found')")
    monkeypatch.syspath_prepend(tmp_path)
    torn = {"torn_litert": "torn_litert"}
    monkeypatch.setattr(litert_engine, "LITERT_LIBRARIES", {**torn, **LITERT_LIBRARIES})
    assert loaded("tflite", tflite_graphs["fp32"]).name.startswith("ai-edge-litert ")
    monkeypatch.setattr(litert_engine, "LITERT_LIBRARIES", {**torn, "nowhere": "nowhere.interpreter"})
    wanted = r"^torn_litert is installed, but does not import \(libm.so.6: .*GLIBC_2.34.*\): run  edgecap doctor$"
    with pytest.raises(EngineError, match=wanted):
        loaded("tflite", tflite_graphs["fp32"])


def test_a_library_made_for_another_numpy_says_so(tflite_graphs: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**options: Any) -> Any:
        raise SystemError("<built-in method CreateWrapperFromBuffer> returned a result with an exception set")

    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", broken)
    with pytest.raises(EngineError, match=r"ai-edge-litert \S+ does not work with numpy \d.*an older numpy"):
        loaded("tflite", tflite_graphs["fp32"])


def test_it_loads_nothing_heavy(two_runtimes: Path, tmp_path: Path) -> None:
    (tmp_path / "red.jpg").write_bytes(encoded("red"))
    heavy = {"torch", "tensorflow", "onnx", "onnx2tf", "transformers", "click"}
    code = (
        "import sys; sys.modules['onnxruntime'] = None; import edgecap.runtime\n"
        "print(edgecap.runtime.load(sys.argv[1]).caption(sys.argv[2]).text)\n"
        f"print({heavy | {'ai_edge_litert'}} & set(sys.modules))"
    )
    assert python(code, two_runtimes, tmp_path / "red.jpg") == ("A red photo.\n{'ai_edge_litert'}\n", "")


def python(code: str, *arguments: object) -> tuple[str, str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return run.stdout, run.stderr


REMARKS = (
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
    "Error in cpuinfo: prctl(PR_SVE_GET_VL) failed",
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "E0000 00:00:1795422525.546330   27507 cuda_dnn.cc:8579] Unable to register cuDNN factory",
    "2026-11-23 08:28:41.033913: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.",
    "onnxruntime cpuid_info warning: Unknown CPU vendor. cpuinfo_vendor value: 0",
    "2026-11-23 21:06:48.914214312 [W:onnxruntime:Default, device_discovery.cc:164 DiscoverDevicesForPlatform] GPU no",
    "\x1b[0;93m2026-11-23 21:06:48.914214312 [W:onnxruntime:Default, device_discovery.cc:164 Discover] GPU no\x1b[m",
)


def test_only_an_engines_remarks_are_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), quiet_start():
        for line in (*REMARKS, "Information", "INFORMATION: heat", *REMARKS, "ERROR: it burns"):
            os.write(2, f"{line}\n".encode())
        os.write(2, b"no end")
        raise KeyError
    assert capfd.readouterr().err == "Information\nINFORMATION: heat\nERROR: it burns\nno end"
    os.write(2, f"{REMARKS[0]}\n".encode())
    assert capfd.readouterr().err == f"{REMARKS[0]}\n"


def test_what_other_threads_write_meanwhile_comes_later(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_start():
        thread = threading.Thread(target=os.write, args=(2, b"from a thread\n"))
        thread.start()
        thread.join()
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == "from a thread\n"


def test_stderr_is_left_alone_while_other_threads_run(capfd: pytest.CaptureFixture[str]) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    with quiet_start():
        os.write(2, f"{REMARKS[0]}\n".encode())
        assert capfd.readouterr().err == f"{REMARKS[0]}\n"
    done.set()
    thread.join()


def test_a_process_without_stderr_loads_all_the_same(two_runtimes: Path) -> None:
    code = (
        "import os, sys; os.close(2); from edgecap.runtime import load\n"
        "print(load(sys.argv[1], engine='tflite').engine)"
    )
    assert python(code, two_runtimes) == ("tflite\n", "")
