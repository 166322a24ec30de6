"""Captions by each set of graphs: how many are the same, where they part, and which sets pass their gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import PREPROCESS, VOCABULARY, encoder_graph, graph_entry, step_graph

from edgecap.data.karpathy import CaptionedPhoto
from edgecap.export.proof import caption_gate as evaluation
from edgecap.export.proof.caption_gate import REFERENCE, Captions, caption_photos, origin_of
from edgecap.export.proof.caption_gate import compare as compare_sets
from edgecap.export.recipe import CaptionGate
from edgecap.metrics.split import image_tensor, quality_of_split, score_split
from edgecap.runtime.engines.engine import Arrays, Encoded, FloatArray, IntArray, Step
from edgecap.runtime.engines.graph_engine import GraphEngine
from edgecap.runtime.engines.onnx_engine import OnnxGraph
from edgecap.runtime.photo.preprocess import to_tensor
from edgecap.runtime.search.decoding import DecodingOptions, Hypothesis, decode

OPTIONS = DecodingOptions(beam=3, max_length=6)
LENIENT = CaptionGate(max_cider_drop=1000, min_identical=0, int8_min_identical=0)
NO_ALPHAS: FloatArray = np.zeros((0, 4), np.float32)

# Ten photos and a caption of each; no two share their second and third word.
COLOURS = ("red", "green", "blue", "dark", "light")
SAID = {f"{n}.jpg": f"a {COLOURS[n % 5]} {('photo', 'picture')[n // 5]}" for n in range(10)}
PHOTOS = tuple(CaptionedPhoto(name, Path(name), (tuple(text.split()),)) for name, text in SAID.items())


def said(text: str) -> Hypothesis:
    ids = tuple(VOCABULARY.encode(text.split()))
    return Hypothesis(ids, -1.0, -1.0, NO_ALPHAS, finished=True, steps=len(ids) + 1)


def captions(changes: Mapping[int, str] | None = None, greedy: Mapping[int, str] | None = None) -> Captions:
    """Those of ``SAID``, but for photos by number of which others are given."""
    beam, best = (
        {name: said((changed or {}).get(n, text)) for n, (name, text) in enumerate(SAID.items())}
        for changed in (changes, greedy)
    )
    return Captions(beam, best)


def compare(*arguments: Any) -> dict[str, dict[str, Any]]:
    """The results as ``eval.json`` has them."""
    return {name: result.to_json() for name, result in compare_sets(*arguments).items()}


def test_fp32_is_held_against_torch_and_the_others_against_fp32_of_their_engine() -> None:
    assert origin_of("torch-fp32") is None
    assert origin_of("onnx-fp32") == origin_of("tflite-fp32") == "torch-fp32"
    assert origin_of("onnx-int8") == origin_of("onnx-fp16") == "onnx-fp32"
    assert origin_of("tflite-int8") == "tflite-fp32"
    sets = {
        REFERENCE: captions(),
        "onnx-fp32": captions({0: "a photo"}),
        "tflite-fp32": captions(),
        "onnx-int8": captions({0: "a photo"}),  # as fp32 of the engine, not as torch
        "tflite-int8": captions({0: "a photo"}),
    }
    results = compare(sets, PHOTOS, VOCABULARY, LENIENT)
    assert list(results) == list(sets)
    assert not {"against", "passes gate", "identical captions"} & results[REFERENCE].keys()
    found = {name: (row["against"], row["identical captions"]) for name, row in results.items() if "against" in row}
    assert found == {
        "onnx-fp32": ("torch-fp32", 0.9),
        "tflite-fp32": ("torch-fp32", 1.0),
        "onnx-int8": ("onnx-fp32", 1.0),
        "tflite-int8": ("tflite-fp32", 0.9),
    }


def test_scores_are_those_of_the_split_and_the_change_is_their_difference() -> None:
    worse = captions({0: "a dark photo photo", 7: "light light picture", 9: "a"})
    results = compare({REFERENCE: captions(), "onnx-fp32": worse}, PHOTOS, VOCABULARY, LENIENT)
    expected = score_split(PHOTOS, worse.beam, VOCABULARY).to_json()
    assert expected.items() <= results["onnx-fp32"].items()
    change = expected["CIDEr-D"] - results[REFERENCE]["CIDEr-D"]
    assert results["onnx-fp32"]["CIDEr-D change"] == pytest.approx(change) and change < -10


def test_beam_and_greedy_captions_are_counted_apart() -> None:
    other = captions({0: "a photo"}, greedy={1: "a photo", 2: "a photo", 3: "a"})
    results = compare({REFERENCE: captions(), "onnx-fp32": other}, PHOTOS, VOCABULARY, LENIENT)
    assert results["onnx-fp32"]["identical captions"] == 0.9
    assert results["onnx-fp32"]["identical greedy captions"] == 0.7


def test_captions_part_at_the_first_word_that_differs_and_the_end_is_a_word() -> None:
    other = captions(
        {
            0: "dark dark photo",  # first word
            1: "a photo",  # second
            2: "a",  # which ends where the other goes on
            3: "a dark photo photo",  # which goes on where the other ends
            4: "a light",
            5: "a red photo",
            6: "",
        }
    )
    results = compare({REFERENCE: captions(), "onnx-fp32": other}, PHOTOS, VOCABULARY, LENIENT)
    assert results["onnx-fp32"]["first diverging step"] == {"1": 2, "2": 2, "3": 2, "4": 1}
    back = compare({REFERENCE: other, "onnx-fp32": captions()}, PHOTOS, VOCABULARY, LENIENT)
    assert back["onnx-fp32"]["first diverging step"] == results["onnx-fp32"]["first diverging step"]


def test_captions_that_are_all_the_same_part_nowhere() -> None:
    results = compare({REFERENCE: captions(), "onnx-fp32": captions()}, PHOTOS, VOCABULARY, CaptionGate())
    row = results["onnx-fp32"]
    assert (row["first diverging step"], row["CIDEr-D change"], row["passes gate"]) == ({}, 0, True)


def passes(name: str, found: Captions, gate: CaptionGate) -> bool:
    sets = {REFERENCE: captions(), "onnx-fp32": captions(), "tflite-fp32": captions(), name: found}
    passed = compare(sets, PHOTOS, VOCABULARY, gate)[name]["passes gate"]
    assert isinstance(passed, bool)
    return passed


@pytest.mark.parametrize(
    ("name", "least"), [("onnx-fp32", 0.9), ("onnx-fp16", 0.9), ("tflite-int8", 0.7), ("onnx-int8", 0.7)]
)
def test_a_gate_is_passed_with_just_so_many_identical_captions(name: str, least: float) -> None:
    gate = CaptionGate(max_cider_drop=1000, min_identical=0.9, int8_min_identical=0.7)
    different = round(10 * (1 - least))
    changes = dict.fromkeys(range(different + 1), "a photo")
    assert not passes(name, captions(changes), gate)
    del changes[0]
    assert passes(name, captions(changes), gate)
    assert passes(name, captions(greedy=dict.fromkeys(range(10), "a")), gate)  # greedy ones do not count


@pytest.mark.parametrize("name", ["onnx-fp32", "tflite-int8"])
def test_a_gate_is_passed_with_just_so_large_a_drop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences of figures as 32.0007 and 31.0007, which in binary is not 1 but a little more."""
    figures = {REFERENCE: 32.0007, "onnx-fp32": 32.0007, "tflite-fp32": 32.0007}
    assert figures[REFERENCE] - 31.0007 > 1

    class FixedScores:
        def __init__(self, figure: float) -> None:
            self.figure = figure

        def to_json(self) -> dict[str, float]:
            return {"CIDEr-D": self.figure}

    def change_and_gate(figure: float) -> tuple[float, bool]:
        sets = {**dict.fromkeys(figures, captions()), name: captions()}
        scores = iter([FixedScores({**figures, name: figure}[key]) for key in sets])
        monkeypatch.setattr(evaluation, "score_split", lambda *arguments: next(scores))
        row = compare(sets, PHOTOS, VOCABULARY, replace(LENIENT, max_cider_drop=1.0))[name]
        return row["CIDEr-D change"], row["passes gate"]

    assert change_and_gate(31.0007) == (-1.0, True)
    assert change_and_gate(31.0006) == (-1.0001, False)
    assert change_and_gate(35.0) == (2.9993, True)


def test_a_set_without_its_origin_is_held_against_nothing() -> None:
    results = compare({"onnx-int8": captions()}, PHOTOS, VOCABULARY, CaptionGate())
    scores = score_split(PHOTOS, captions().beam, VOCABULARY).to_json()
    assert results["onnx-int8"] == {
        **scores,
        "quality": quality_of_split(PHOTOS, captions().beam, VOCABULARY).to_json(),
    }


def test_each_set_has_the_quality_of_its_captions() -> None:
    other = captions(dict.fromkeys(range(9), "a red photo"))
    train = [CaptionedPhoto("train.jpg", Path("train.jpg"), (("a", "red", "photo"), ("a", "photo")))]
    results = compare({REFERENCE: captions(), "onnx-fp32": other}, PHOTOS, VOCABULARY, LENIENT, train)
    found = {name: row["quality"] for name, row in results.items()}
    assert [row["distinct captions"]["count"] for row in found.values()] == [10, 2]
    assert [row["seen in training"]["count"] for row in found.values()] == [1, 9]


class CountedEngine(GraphEngine):
    """The tiny bundle's graphs, with what the encoder was given; ``mirrored`` gives them channels in reverse."""

    def __init__(self, mirrored: bool = False) -> None:
        graphs = zip(("encoder", "decoder_step"), (encoder_graph(), step_graph()), strict=True)
        super().__init__({role: OnnxGraph(graph, graph_entry(role, "onnx"), 1, role) for role, graph in graphs})
        self.mirrored = mirrored
        self.photos: list[int] = []
        self.hypotheses: set[int] = set()

    def encode(self, images: FloatArray) -> Encoded:
        self.photos.append(len(images))
        return super().encode(images[:, ::-1] if self.mirrored else images)

    def step(self, token: IntArray, state: Arrays, memory: Arrays) -> Step:
        self.hypotheses.add(token.shape[1])
        return super().step(token, state, memory)


@pytest.fixture
def coloured(photo: Callable[..., Path]) -> list[CaptionedPhoto]:
    paths = [photo(f"{colour}.png", colour) for colour in ("red", "blue", "lime", "black", "white")]
    return [CaptionedPhoto(path.name, path, (("a", "photo"),)) for path in paths]


def test_each_photo_is_captioned_by_each_engine(
    coloured: list[CaptionedPhoto], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches, which change nothing."""
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 2)
    engines = {"one": CountedEngine(), "other": CountedEngine(mirrored=True)}
    found = caption_photos(engines, coloured, PREPROCESS, VOCABULARY, OPTIONS)
    assert list(found) == ["one", "other"]
    for name, engine in engines.items():
        assert engine.photos == [2, 2, 1] and engine.hypotheses == {1, 3}
        for search, options in (("beam", OPTIONS), ("greedy", replace(OPTIONS, beam=1))):
            by_photo = getattr(found[name], search)
            assert list(by_photo) == [photo.id for photo in coloured]
            for photo in coloured:
                alone = decode(engine, engine.encode(to_tensor(photo.path, PREPROCESS)), VOCABULARY, options)
                assert by_photo[photo.id].token_ids == alone[0][0].token_ids
        engine.photos.clear()
    words = [[VOCABULARY.words(one.beam[name].token_ids)[1] for name in one.beam] for one in found.values()]
    assert words == [["red", "blue", "green", "dark", "light"], ["blue", "red", "green", "dark", "light"]]


def test_a_photo_is_read_once_for_all_engines(coloured: list[CaptionedPhoto], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(paths: list[Path], preprocess: object) -> FloatArray:
        read.extend(path.name for path in paths)
        return image_tensor(paths, PREPROCESS)

    monkeypatch.setattr(evaluation, "image_tensor", counted)
    engines = {"one": CountedEngine(), "other": CountedEngine()}
    caption_photos(engines, coloured, PREPROCESS, VOCABULARY, OPTIONS)
    assert read == [photo.id for photo in coloured]
