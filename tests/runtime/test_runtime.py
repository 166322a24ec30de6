"""Photos to captions through the Python interface, on the tiny bundle."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import coloured, encoded, patchwork
from places import ROOT
from tiny_bundle import Graphs, encoder_graph, onnx_graphs, step_graph, write_tiny_bundle
from tiny_bundle import loaded as in_engine
from tiny_tflite import made_for_a_newer_engine

from edgecap.errors import BundleError, EngineError, ImageError, MissingExtraError, OptionError, UnsupportedGraphError
from edgecap.runtime import Caption, Captioner, load
from edgecap.runtime.machine.threads import default_threads

COLOURS = {"red": "A red photo.", "lime": "A green photo.", "blue": "A blue photo.", "black": "A dark photo."}
HEAVY = {"torch", "tensorflow", "onnx", "transformers", "click"}


@pytest.mark.parametrize(("colour", "text"), COLOURS.items())
@pytest.mark.parametrize("beam", [1, None, 100])
def test_a_caption_says_what_is_there(captioner: Captioner, colour: str, text: str, beam: int | None) -> None:
    caption = captioner.caption(encoded(colour), beam=beam)
    assert caption.text == text
    assert caption.tokens == tuple(text.lower().removesuffix(".").split())
    assert captioner.bundle.vocabulary.words(caption.token_ids) == caption.tokens
    assert caption.log_prob < 0 and not caption.truncated


def test_attention_is_a_map_per_word(captioner: Captioner) -> None:
    half_red = coloured("grey", (32, 32))
    half_red.paste(coloured("red", (32, 16)), (0, 0))
    attention = captioner.caption(half_red).attention
    assert attention.shape == (3, 2, 2) and attention.dtype == np.float32
    np.testing.assert_allclose(attention.sum((1, 2)), 1, atol=1e-5)
    assert np.abs(attention[:, 0] - attention[:, 1]).min() > 0.1  # upper and lower half differ


def test_timings_add_up(captioner: Captioner) -> None:
    for caption in (captioner.caption(encoded("red")), *captioner.caption_batch([encoded("red")] * 3)):
        timings = caption.timings
        parts = (timings.preprocess_ms, timings.encoder_ms, timings.steps_ms)
        assert min(parts) > 0 and timings.total_ms == pytest.approx(sum(parts))
        assert timings.steps == 4  # a, red, photo, <end>


def test_a_batch_gives_what_single_photos_give(captioner: Captioner) -> None:
    photos = [*map(encoded, COLOURS), *patchwork(5)]
    together = captioner.caption_batch(photos, beam=2)
    for one, other in zip([captioner.caption(photo, beam=2) for photo in photos], together, strict=True):
        assert (one.text, one.token_ids) == (other.text, other.token_ids)
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-5)
        np.testing.assert_allclose(one.attention, other.attention, atol=1e-5)
    assert captioner.caption_batch([]) == []


def test_prepared_photos_are_captioned_as_they_are(captioner: Captioner) -> None:
    prepared = captioner.prepare(encoded("blue"))
    assert captioner.caption(prepared) == captioner.caption(encoded("blue"))
    assert captioner.caption(prepared).timings.preprocess_ms == prepared.preprocess_ms


def test_a_bad_photo_stops_its_batch_or_is_returned(captioner: Captioner, tmp_path: Path) -> None:
    photos = [encoded("red"), tmp_path / "no.jpg", captioner.prepare(encoded("blue")), b"none"]
    with pytest.raises(ImageError, match=r"no\.jpg: no such file"):
        captioner.caption_batch(photos)
    red, missing, blue, damaged = captioner.caption_batch(iter(photos), on_error="return")
    assert isinstance(red, Caption) and isinstance(blue, Caption)
    assert (red.text, blue.text) == ("A red photo.", "A blue photo.")
    assert isinstance(missing, ImageError) and missing.problem == "no such file"
    assert isinstance(damaged, ImageError)
    (only,) = captioner.caption_batch([b"none"], on_error="return")
    assert isinstance(only, ImageError)


def test_the_best_captions_come_with_the_first(captioner: Captioner) -> None:
    one = captioner.caption(encoded("red"))
    best = captioner.caption(encoded("red"), n_best=3)
    assert best == replace(one, n_best=best.n_best) and one.n_best == () and len(best.n_best) == 3
    first = best.n_best[0]
    assert (first.text, first.tokens, first.token_ids) == (one.text, one.tokens, one.token_ids)
    assert [found.log_prob for found in best.n_best] == sorted((f.log_prob for f in best.n_best), reverse=True)
    assert len({found.text for found in best.n_best}) == 3
    assert len(captioner.caption(encoded("red"), n_best=1).n_best) == 1
    with pytest.raises(OptionError, match="n_best must be between 1 and beam 3, not 4"):
        captioner.caption(encoded("red"), n_best=4)


def test_options_change_the_caption(captioner: Captioner) -> None:
    cut = captioner.caption(encoded("red"), max_length=2, beam=1)
    assert cut.tokens == ("a", "red") and cut.truncated
    assert len(captioner.caption(encoded("red"), min_length=5).tokens) >= 5
    assert captioner.options().beam == captioner.bundle.generation.beam
    wrongs: list[dict[str, Any]] = [
        {"beam": 0},
        {"max_length": 1000},
        {"length_penalty": float("nan")},
        {"min_length": 7},
        {"beam": "5"},
        {"beam": 1.5},
        {"beam": True},
        {"n_best": "3"},
        {"max_length": "20"},
        {"length_penalty": "1"},
        {"max_ms": "soon"},
        {"max_ms": [5]},
    ]
    for wrong in wrongs:
        with pytest.raises(OptionError, match=next(iter(wrong))):
            captioner.caption(encoded("red"), **wrong)


def test_the_fastest_precision_is_chosen(tiny_bundle: Path) -> None:
    assert load(tiny_bundle).precision == "int8"
    assert load(tiny_bundle, precision="fp32", engine="onnx").precision == "fp32"
    assert 1 <= default_threads() <= 4


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"precision": "fp16"},
            r"has no fp16 graphs; it has: onnx int8, fp32\. To have them:  edgecap export CHECKPOINT -o DIR --fp16 ",
        ),
        ({"precision": "int4"}, r"has no int4 graphs; it has: onnx int8, fp32\. "),
        ({"engine": "tflite"}, r"has no tflite graphs; it has: onnx int8, fp32\. .* -o DIR --tflite --data"),
        (
            {"engine": "tflite", "precision": "int8"},
            r"has no tflite int8 graphs; it has: onnx int8, fp32\. .* -o DIR --tflite --int8 ",
        ),
        ({"engine": "abacus"}, "engine must be auto, onnx, tflite, not 'abacus'"),
        ({"threads": 0}, "threads must be"),
        ({"threads": "2"}, "threads must be a whole number, not '2'"),
    ],
)
def test_a_choice_that_is_not_there_is_refused(tiny_bundle: Path, options: dict[str, str], problem: str) -> None:
    with pytest.raises(OptionError, match=problem):
        load(tiny_bundle, **options)  # type: ignore[arg-type]


def test_the_first_engine_with_graphs_is_chosen(
    two_runtimes: Path, tflite_graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, chosen in (
        ({}, ("onnx", "int8")),
        ({"engine": "tflite"}, ("tflite", "int8")),
        ({"engine": "tflite", "precision": "fp32"}, ("tflite", "fp32")),
    ):
        captioner = load(two_runtimes, **options)  # type: ignore[arg-type]
        assert (captioner.engine, captioner.precision) == chosen and captioner.notes == ()
    tflite_only = write_tiny_bundle(tmp_path / "tflite", onnx={}, tflite=tflite_graphs)
    assert load(tflite_only).engine == "tflite"
    # Each has what the other lacks.
    mixed = write_tiny_bundle(tmp_path / "mixed", {"int8": onnx_graphs()["int8"]}, {"fp32": tflite_graphs["fp32"]})
    assert load(mixed).engine == "onnx" and load(mixed, precision="fp32").engine == "tflite"
    with pytest.raises(OptionError, match=r"has no onnx fp32 graphs; it has: onnx int8; tflite fp32\. "):
        load(mixed, engine="onnx", precision="fp32")
    # And when one is not installed.
    monkeypatch.setattr("edgecap.runtime.engines.libraries.installed", lambda runtime: runtime == "tflite")
    assert load(two_runtimes).engine == "tflite"
    with pytest.raises(MissingExtraError, match=r"edgecap\[onnx\]"):
        load(two_runtimes, engine="onnx")
    monkeypatch.setattr("edgecap.runtime.engines.libraries.installed", lambda runtime: False)
    for bundle, extra in ((two_runtimes, "onnx"), (tflite_only, "tflite")):
        with pytest.raises(MissingExtraError, match=rf"edgecap\[{extra}\]"):
            load(bundle)


def test_a_bundle_without_graphs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"has no graphs; it has: none\. "):
        load(write_tiny_bundle(tmp_path / "bundle", onnx={}))


def test_another_precision_replaces_one_that_the_engine_refuses(tmp_path: Path) -> None:
    good, refused = (encoder_graph(), step_graph()), (encoder_graph(), b"an operator of tomorrow")
    bundle = write_tiny_bundle(tmp_path / "bundle", {"int8": refused, "fp16": refused, "fp32": good})
    with load(bundle, threads=1) as captioner:
        assert captioner.precision == "fp32"
        assert captioner.caption(encoded("red")).text == "A red photo."
        for note, precision in zip(captioner.notes, ("int8", "fp16"), strict=True):
            assert re.fullmatch(rf"{precision} graphs do not load in onnxruntime \d\S+ \(.+\): fp32 is used", note)
    with pytest.raises(UnsupportedGraphError, match="decoder_step: does not load in onnxruntime"):
        load(bundle, precision="int8")  # nobody gets another precision than asked for
    nothing_loads = write_tiny_bundle(tmp_path / "none", {"int8": refused, "fp32": refused})
    with pytest.raises(UnsupportedGraphError, match="decoder_step: does not load in onnxruntime"):
        load(nothing_loads)


def test_a_graph_for_a_newer_litert_is_replaced(tflite_graphs: Graphs, tmp_path: Path) -> None:
    encoder, step = tflite_graphs["int8"]
    graphs = {"int8": (made_for_a_newer_engine(encoder), step), "fp32": tflite_graphs["fp32"]}
    captioner = load(write_tiny_bundle(tmp_path / "bundle", tflite=graphs), engine="tflite")
    (note,) = captioner.notes
    wanted = r"int8 graphs do not load in ai-edge-litert \d\S+ \(Didn't find op .* version '99'.*\): fp32 is used"
    assert re.fullmatch(wanted, note) and captioner.precision == "fp32"


@pytest.mark.parametrize("graph", ["encoder.int8.onnx", "decoder_step.fp32.onnx"])
def test_a_torn_graph_is_never_replaced(own_bundle: Path, graph: str) -> None:
    content = (own_bundle / graph).read_bytes()
    (own_bundle / graph).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match="does not match its sha256") as caught:
        load(own_bundle)
    assert not isinstance(caught.value, UnsupportedGraphError)


def test_wrong_tensors_are_never_replaced(tmp_path: Path) -> None:
    good, swapped = (encoder_graph(), step_graph()), (step_graph(), step_graph())
    with pytest.raises(EngineError, match="encoder has the inputs"):
        load(write_tiny_bundle(tmp_path / "bundle", {"int8": swapped, "fp32": good}))


def test_graphs_that_are_none_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnsupportedGraphError, match=r"b: encoder: does not load in onnxruntime \d") as caught:
        in_engine("onnx", (b"no graph", step_graph()))
    assert "\n" not in str(caught.value)
    with pytest.raises(EngineError, match="b: encoder has the inputs"):
        in_engine("onnx", (step_graph(), step_graph()))
    assert capfd.readouterr().err == ""


def test_an_engine_that_fails_is_one_line(captioner: Captioner, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EngineError, match="ONNX Runtime failed") as caught:
        captioner.loaded.encode(np.zeros((1, 3, 31, 31), np.float32))
    assert "\n" not in str(caught.value) and capfd.readouterr().err == ""


def test_real_photos(captioner: Captioner, real_photos: list[Path]) -> None:
    captions: list[Caption] = captioner.caption_batch(real_photos[:8])
    assert all(caption.text.startswith("A ") for caption in captions)


def python(code: str, *arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def test_importing_and_running_loads_nothing_heavy(tiny_bundle: Path, photo: Callable[..., Path]) -> None:
    loaded = f"print(sorted({HEAVY} & set(sys.modules)), 'onnxruntime' in sys.modules)"
    code = f"import sys, edgecap.runtime; {loaded}; "
    run = f"print(edgecap.runtime.load(sys.argv[1]).caption(sys.argv[2]).text); {loaded}"
    assert python(code + run, tiny_bundle, photo("red.jpg", "red")).splitlines() == [
        "[] False",
        "A red photo.",
        "[] True",
    ]


@pytest.mark.parametrize("engine", ["onnx", "tflite"])
def test_without_an_engine_the_extra_is_named(engine: str, tmp_path: Path) -> None:
    graphs = onnx_graphs()  # nobody gets so far as to look at them
    bundle = write_tiny_bundle(tmp_path / "bundle", **{"onnx": {}, engine: graphs})
    code = (
        "import sys; sys.modules.update(dict.fromkeys(sys.argv[2:])); import edgecap.errors, edgecap.runtime\n"
        "try: edgecap.runtime.load(sys.argv[1])\n"
        "except edgecap.errors.MissingExtraError as error: print(error)"
    )
    libraries = ("onnxruntime", "ai_edge_litert", "tflite_runtime", "tensorflow")
    assert f"pip install 'edgecap[{engine}]'" in python(code, bundle, *libraries)
