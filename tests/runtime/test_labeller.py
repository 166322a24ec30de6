"""Photos to labels through the Python interface, on the tiny labeller."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ENVIRONMENT, encoded, patchwork
from PIL import Image
from tiny_bundle import json_bytes
from tiny_labels import LABELS, SPACE, label_graph, label_table, write_label_bundle

from edgecap.errors import BundleError, EngineError, ImageError, OptionError, TaskError
from edgecap.runtime import Labeller, Labels, load, load_labeller
from edgecap.runtime.engines.engine import FloatArray
from edgecap.runtime.labels.table import LabelTable

COLOURS = {"red": "red", "lime": "green", "blue": "blue", "black": "dark", "white": "light"}


@pytest.fixture(scope="module")
def labeller(label_bundle: Path) -> Iterator[Labeller]:
    with load_labeller(label_bundle, threads=1) as loaded:
        yield loaded


@pytest.mark.parametrize(("colour", "name"), COLOURS.items())
def test_the_likeliest_label_is_what_is_there(labeller: Labeller, colour: str, name: str) -> None:
    labels = labeller.label(encoded(colour))
    assert labels.names[0] == name and labels.reason is None and not labels.damaged
    assert all(0.5 <= label.confidence <= 1 and label.similarity <= 1 for label in labels.labels)


@pytest.mark.parametrize("engine", ["onnx", "tflite"])
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_every_engine_says_the_same(two_label_engines: Path, engine: str, precision: str) -> None:
    with load_labeller(two_label_engines, engine=engine, precision=precision, threads=1) as labeller:
        assert (labeller.engine, labeller.precision) == (engine, precision)
        found = labeller.label_batch(map(encoded, COLOURS))
        assert [labels.names[0] for labels in found] == list(COLOURS.values())
        with load_labeller(two_label_engines, precision="fp32", engine="onnx", threads=1) as other:
            for colour in COLOURS:
                assert labeller.embed(encoded(colour)) @ other.embed(encoded(colour)) > 0.999


def test_a_vector_is_of_length_1(labeller: Labeller) -> None:
    vectors = [labeller.embed(photo) for photo in (encoded("red"), labeller.prepare(encoded("navy")), *patchwork(2))]
    for vector in vectors:
        assert vector.shape == (3,) and vector.dtype == np.float32
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert labeller.label(encoded("red")).labels[0].similarity == pytest.approx(float(vectors[0] @ RED), abs=1e-6)


RED = np.array([1, -1, -1], np.float32) / np.sqrt(3)


def test_a_batch_gives_what_single_photos_give(labeller: Labeller) -> None:
    photos = [*map(encoded, COLOURS), *patchwork(4)]
    together = labeller.label_batch(photos, threshold=0, top=3)
    for one, other in zip([labeller.label(photo, threshold=0, top=3) for photo in photos], together, strict=True):
        assert one.names == other.names and len(one.labels) == 3
        assert [a.confidence for a in one.labels] == pytest.approx([b.confidence for b in other.labels], abs=1e-6)
    assert labeller.label_batch([]) == []


def test_timings_add_up(labeller: Labeller) -> None:
    for labels in (labeller.label(encoded("red")), *labeller.label_batch([encoded("red")] * 3)):
        timings = labels.timings
        parts = (timings.preprocess_ms, timings.encoder_ms, timings.scoring_ms)
        assert min(parts) > 0 and timings.total_ms == pytest.approx(sum(parts))


def test_labels_are_chosen_by_any_name(labeller: Labeller) -> None:
    assert labeller.label(encoded("red"), ["BLAU", "rot"]).names == ("rot",)
    assert labeller.label(encoded("red"), ["blau"], threshold=0).names == ("blau",)
    chosen = labeller.choose(["blue", "red", "red"])
    assert chosen.names == ("blue", "red") and chosen.doubles == ("red",)
    assert labeller.label(encoded("red"), chosen).names == ("red",)
    with pytest.raises(OptionError, match=r"'rod' \(near: 'rot', 'red'\)"):
        labeller.label(encoded("red"), ["rod"])
    with pytest.raises(OptionError, match="labels are of the space 'another', not 'colours'"):
        labeller.label(encoded("red"), replace(chosen, space="another"))


@pytest.mark.parametrize(
    "wrong",
    [{"top": 0}, {"top": 1.5}, {"top": True}, {"threshold": -0.1}, {"threshold": float("nan")}, {"threshold": "0.5"}],
)
def test_an_option_that_cannot_work_is_refused(labeller: Labeller, wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        labeller.label(encoded("red"), **wrong)


def test_what_is_no_photo_has_no_labels(labeller: Labeller) -> None:
    plain = Image.new("RGB", (64, 48), "red")
    nothing, red = labeller.label_batch([plain, encoded("red")], threshold=0)
    assert nothing.labels == () and str(nothing.reason).startswith("not a photo: ") and red.names[0] == "red"
    assert nothing.timings.encoder_ms == 0 and labeller.embed(plain) @ RED > 0.99


def test_a_bad_photo_stops_its_batch_or_is_returned(labeller: Labeller, tmp_path: Path) -> None:
    photos = [encoded("red"), tmp_path / "no.jpg", labeller.prepare(encoded("blue")), b"none"]
    with pytest.raises(ImageError, match=r"no\.jpg: no such file"):
        labeller.label_batch(photos)
    red, missing, blue, damaged = labeller.label_batch(iter(photos), on_error="return")
    assert isinstance(red, Labels) and isinstance(blue, Labels) and (red.names[0], blue.names[0]) == ("red", "blue")
    assert isinstance(missing, ImageError) and isinstance(damaged, ImageError)
    with pytest.raises(OptionError, match=r"photos must be a list of photos, not str: .* label\(\)"):
        labeller.label_batch("photo.jpg")


def test_threads_share_a_labeller(labeller: Labeller) -> None:
    photos = [encoded(colour) for colour in COLOURS] * 8
    with ThreadPoolExecutor(4) as pool:
        assert [labels.names[0] for labels in pool.map(labeller.label, photos)] == [*COLOURS.values()] * 8


def test_a_closed_labeller_says_so(label_bundle: Path) -> None:
    labeller = load_labeller(label_bundle)
    labeller.close()
    labeller.close()
    for call in (labeller.label, labeller.embed):
        with pytest.raises(EngineError, match="the labeller is closed: load another"):
            call(encoded("red"))


def name_of(labeller: Labeller, photo: bytes) -> str:
    return labeller.label(photo).names[0]


def test_another_process_opens_the_same(label_bundle: Path) -> None:
    table = label_table(names=tuple((f"{names[0]}ish",) for names in LABELS))
    for own, name in ((None, "red"), (table, "redish")):
        with load_labeller(label_bundle, table=own, precision="fp32", threads=1) as labeller:
            again = pickle.loads(pickle.dumps(labeller))
            assert (again.precision, name_of(again, encoded("red"))) == ("fp32", name)
            with multiprocessing.get_context("fork").Pool(1) as pool:
                assert pool.apply(name_of, (labeller, encoded("red"))) == name


def test_it_must_be_named_as_none_comes_with_this_version() -> None:
    with pytest.raises(OptionError, match=r"no labeller comes with this version .* edgecap label --bundle DIR"):
        load_labeller()


def test_a_bundle_of_the_other_task_is_refused_both_ways(label_bundle: Path, tiny_bundle: Path) -> None:
    with pytest.raises(TaskError, match="is a labeller, where a captioner is needed: it is for  edgecap label"):
        load(label_bundle)
    with pytest.raises(TaskError, match="is a captioner, where a labeller is needed: it is for  edgecap caption"):
        load_labeller(tiny_bundle)


def write_table(path: Path, table: LabelTable, **changes: Any) -> Path:
    path.write_bytes(json_bytes({**table.to_json(), **changes}))
    return path


def test_another_table_of_the_space_may_be_used(label_bundle: Path, tmp_path: Path) -> None:
    table = label_table("fp16", names=tuple((f"{names[0]} things",) for names in LABELS))
    file = write_table(tmp_path / "things.json", table)
    for given in (file, str(file), table):
        with load_labeller(label_bundle, table=given, threads=1) as labeller:
            assert labeller.label(encoded("red")).names[0] == "red things"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"space": "clip-vit-b-32"}, r"t\.json: is a table of the space 'clip-vit-b-32' \(3 wide\), tiny-labels@"),
        ({"slopes": [float("nan")] * 6}, r"t\.json: is not JSON as bundles have it: NaN is no number of JSON"),
        ({"names": []}, r"t\.json: is wrong: a table has 1 to 100,000 labels, not 0"),
        ({"vectors": ""}, r"t\.json: is wrong: labels\.vectors has 0 characters"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(
    label_bundle: Path, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    file = write_table(tmp_path / "t.json", label_table(), **changes)
    with pytest.raises((BundleError, OptionError), match=problem) as caught:
        load_labeller(label_bundle, table=file)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_no_file_is_one_line(label_bundle: Path, tmp_path: Path) -> None:
    for file, problem in ((tmp_path / "no.json", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(BundleError, match=f"cannot be read: {problem}"):
            load_labeller(label_bundle, table=file)
    with pytest.raises(OptionError, match="table must be a file, not 3"):
        load_labeller(label_bundle, table=3)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Text:
    """A text side to which every word is red."""

    space: str

    def embed(self, words: Any) -> FloatArray:
        return np.tile(RED, (len(words), 1))


def test_a_text_side_must_be_of_the_space(label_bundle: Path) -> None:
    with load_labeller(label_bundle, text=Text(SPACE), threads=1) as labeller:
        assert labeller.label(encoded("red"), ["crimson", "blue"]).names == ("crimson",)
    with pytest.raises(OptionError, match="the text side embeds in the space 'another', the labeller in 'colours'"):
        load_labeller(label_bundle, text=Text("another"))


def test_a_precision_that_does_not_load_is_replaced(tmp_path: Path) -> None:
    graphs = {"int8": b"an operator of tomorrow", "fp32": label_graph()}
    with load_labeller(write_label_bundle(tmp_path / "bundle", graphs), threads=1) as labeller:
        assert labeller.precision == "fp32" and labeller.label(encoded("red")).names[0] == "red"
        assert len(labeller.notes) == 1 and labeller.notes[0].endswith("): fp32 is used")


def test_a_moved_bundle_is_not_opened_again_as_another(label_bundle: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(label_bundle, tmp_path / "bundle"))
    with load_labeller(own, threads=1) as labeller:
        pickled = pickle.dumps(labeller)
    shutil.rmtree(own)
    write_label_bundle(own, table=label_table("fp16"))
    with pytest.raises(BundleError, match="is not the bundle any more that the labeller was pickled with"):
        pickle.loads(pickled)


def test_importing_and_running_loads_nothing_heavy(label_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "red.jpg").write_bytes(encoded("red"))
    code = (
        "import sys, edgecap.runtime as r; print(r.load_labeller(sys.argv[1]).label(sys.argv[2]).names[0]); "
        "print(sorted({'torch', 'tensorflow', 'onnx', 'transformers', 'click', 'difflib'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(label_bundle), str(tmp_path / "red.jpg")]
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["red", "[]"]
