"""``edgecap label`` as people and scripts call it: output, one line per error, exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import edgecap, edgecap_here, encoded
from PIL import Image
from tiny_bundle import json_bytes
from tiny_labels import LABELS, label_table, write_label_bundle, write_label_golden

Photo = Callable[..., Path]
RED = "red 0.88, a stop sign at sunset 0.82"


@pytest.fixture
def photos(photo: Photo) -> tuple[Path, Path]:
    return photo("red.jpg", "red"), photo("blue.png", "blue")


def test_one_photo_is_only_its_labels(label_bundle: Path, photo: Photo) -> None:
    assert edgecap("label", photo("red.jpg", "red"), "--bundle", label_bundle) == (0, [RED], [])


@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_several_photos_are_named(label_bundle: Path, photos: tuple[Path, Path], batch_size: int) -> None:
    red, blue = photos
    code, out, err = edgecap_here("label", red, blue, "--bundle", label_bundle, "--batch-size", batch_size)
    assert (code, out, err) == (0, [f"{red}: {RED}", f"{blue}: blue 0.88"], [])


def test_a_directory_is_its_photos_in_order(label_bundle: Path, photos: tuple[Path, Path], tmp_path: Path) -> None:
    red, blue = photos
    (tmp_path / "notes.txt").write_text("not a photo, and not asked for")
    code, out, err = edgecap_here("label", tmp_path, "--bundle", label_bundle)
    assert (code, out) == (0, [f"{blue}: blue 0.88", f"{red}: {RED}"])
    assert err == [f"edgecap: {tmp_path}: skipped 1 that is no photo"]


def test_a_photo_on_stdin(label_bundle: Path) -> None:
    arguments = ("label", "-", "--bundle", label_bundle)
    assert edgecap(*arguments, stdin=encoded("red")) == (0, [RED], [])
    assert edgecap(*arguments, stdin=b"") == (1, [], ["edgecap: -: is empty"])
    assert edgecap(*arguments, "--keep", "red", stdin=encoded("red")) == (0, ["-"], [])


def test_every_engine_says_the_same(two_label_engines: Path, photos: tuple[Path, Path]) -> None:
    for engine, library in (("onnx", "onnxruntime"), ("tflite", "ai-edge-litert")):
        arguments = ("label", *photos, "--bundle", two_label_engines, "--engine", engine, "--top", 1, "--json")
        code, out, err = edgecap(*arguments)
        records = list(map(json.loads, out))
        assert (code, err) == (0, []) and [one["labels"][0]["name"] for one in records] == ["red", "blue"]
        assert all(one["library"].startswith(f"{library} ") and one["engine"] == engine for one in records)


def test_json_has_a_record_for_every_photo(label_bundle: Path, photo: Photo, tmp_path: Path) -> None:
    red, plain = photo("red.jpg", "red"), tmp_path / "plain.png"
    Image.new("RGB", (64, 48), "red").save(plain)
    code, out, err = edgecap_here(
        "label", red, "no.jpg", plain, "--json", "--bundle", label_bundle, "--precision", "fp32"
    )
    assert (code, err) == (1, ["edgecap: no.jpg: no such file"])
    record, failure, nothing = map(json.loads, out)
    assert failure == {"path": "no.jpg", "error": "no such file"}
    assert [label["name"] for label in record["labels"]] == ["red", "a stop sign at sunset"]
    assert set(record["labels"][0]) == {"name", "confidence", "similarity"}
    assert record["reason"] is None and record["damaged"] is False and record["precision"] == "fp32"
    assert set(record["timings_ms"]) == {"preprocess", "encoder", "scoring", "total"}
    assert re.fullmatch(r"onnxruntime \d\S+", record["library"]) and record["bundle"].startswith("tiny-labels@")
    assert nothing["labels"] == [] and nothing["reason"].startswith("not a photo: ")


def test_what_is_no_photo_and_what_is_not_sure(label_bundle: Path, photo: Photo, tmp_path: Path) -> None:
    plain = tmp_path / "plain.png"
    Image.new("RGB", (64, 48), "red").save(plain)
    assert edgecap_here("label", plain, "--bundle", label_bundle) == (0, ["not a photo"], [])
    red = photo("red.jpg", "red")
    assert edgecap_here("label", red, "--bundle", label_bundle, "--threshold", 0.99) == (0, ["not sure"], [])


def test_a_cut_jpeg_is_labelled_all_the_same(label_bundle: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(encoded("red", (640, 480))[:-2])
    code, out, err = edgecap_here("label", cut, "--bundle", label_bundle)
    assert (code, out) == (0, [RED])
    assert err == [f"edgecap: {cut}: is cut short: all of its rows are there; labelled all the same"]


def test_labels_are_chosen(label_bundle: Path, photo: Photo, tmp_path: Path) -> None:
    red, listed = photo("red.jpg", "red"), tmp_path / "words.txt"
    listed.write_text("\ufeffROT\n\n  gr\u00fcn \r\n\u043a\u0440\u0430\u0441\u043d\u044b\u0439\n", encoding="utf-8")
    own = ("label", red, "--bundle", label_bundle)
    assert edgecap_here(*own, "--labels", 'blue, "a stop sign at sunset",')[1] == ["a stop sign at sunset 0.82"]
    assert edgecap_here(*own, "--labels", "blue,dark", "--threshold", 0, "--top", 1)[1] == ["dark 0.01"]
    assert edgecap(*own, "--labels-file", listed) == (
        0,
        ["ROT 0.88, \u043a\u0440\u0430\u0441\u043d\u044b\u0439 0.88"],
        [],
    )
    assert edgecap_here(*own, "--labels-file", listed, "--labels", "light,red", "--top", 2)[1] == ["red 0.88, ROT 0.88"]
    code, out, err = edgecap_here(*own, "--labels", "red,blue,Red,RED")
    assert (code, out) == (0, ["red 0.88"])
    assert err == ["edgecap: 1 label asked for more than once, such as 'red': answered once"]


def test_a_name_with_commas_stands_in_quotes(photo: Photo, tmp_path: Path) -> None:
    names = ("salt, pepper", *(names[0] for names in list(LABELS)[1:]))
    bundle = write_label_bundle(tmp_path / "bundle", table=label_table(names=tuple((name,) for name in names)))
    own = ("label", photo("red.jpg", "red"), "--bundle", bundle)
    assert edgecap_here(*own, "--labels", 'blue,"salt, pepper"') == (0, ["salt, pepper 0.88"], [])
    code, out, err = edgecap_here(*own, "--labels", 'blue,"salt, pepper')
    assert (code, out) == (2, []) and err[-1].startswith("edgecap: --labels: is no list with commas: ")


def test_only_photos_with_a_label_are_kept(label_bundle: Path, photos: tuple[Path, Path], tmp_path: Path) -> None:
    red, blue = photos
    own = ("label", tmp_path, "--bundle", label_bundle)
    assert edgecap_here(*own, "--keep", "Rot") == (0, [str(red)], [])
    assert edgecap_here(*own, "--keep", "a stop sign at sunset", "--min", 0.9) == (0, [], [])
    assert edgecap_here(*own, "--keep", "red", "--min", 0) == (0, [str(blue), str(red)], [])
    code, out, err = edgecap_here("label", red, blue, "no.jpg", "--bundle", label_bundle, "--keep", "blue", "--json")
    kept, failed = map(json.loads, out)
    assert (code, err) == (1, ["edgecap: no.jpg: no such file"]) and failed["error"] == "no such file"
    assert kept["path"] == str(blue) and [label["name"] for label in kept["labels"]] == ["blue"]
    Image.new("RGB", (64, 48), "red").save(red.with_suffix(".png"))
    assert edgecap_here("label", red.with_suffix(".png"), "--bundle", label_bundle, "--keep", "red") == (0, [], [])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--min", 0.4), "--min is for --keep: without, say --threshold"),
        (("--keep", "red", "--top", 3), "--keep asks for one label, so --top means nothing beside it"),
        (("--keep", "red", "--labels", "blue"), "--keep asks for one label, so --labels means nothing"),
        (("--keep", "red", "--threshold", 0.4), "so --threshold means nothing"),
        (("--keep", "rad"), r"not in the table of labels: 'rad' \(near: 'red'"),
        (("--keep", " "), "labels: a label is empty"),
        (("--labels", ""), "labels: none is named"),
        (("--labels", " , ,"), "labels: none is named"),
        (
            ("--labels", "gren,red"),
            r"not in the table of labels: 'gren' \(near: 'green', 'gr\xfcn'\)\. Ask for names that",
        ),
        (("--labels", "\u72ac"), r"'\u72ac' \(nothing is near\)"),
        (("--labels", "r" * 10_000), "labels: a label has at most 200 characters, not 10,000: rrr"),
        (("--top", 0), "Invalid value for '--top'"),
        (("--threshold", 1.5), "Invalid value for '--threshold'"),
        (("--threshold", "nan"), "threshold must be between 0 and 1, not nan"),
        (("--precision", "int4"), "has no int4 graphs"),
    ],
)
def test_wrong_usage_is_one_line(label_bundle: Path, photo: Photo, options: tuple[object, ...], problem: str) -> None:
    code, out, err = edgecap_here("label", photo("red.jpg", "red"), "--bundle", label_bundle, *options)
    assert (code, out) == (2, []) and re.search(problem, err[-1]) and len(err[-1]) < 500


def test_lists_of_labels_that_cannot_be_used(label_bundle: Path, photo: Photo, tmp_path: Path) -> None:
    own, file = ("label", photo("red.jpg", "red"), "--bundle", label_bundle, "--labels-file"), tmp_path / "words.txt"
    file.write_text("\n".join(f"word {number}" for number in range(100_000)))
    code, out, err = edgecap_here(*own, file)
    assert (code, out, len(err)) == (2, [], 1) and "and 99,997 more. " in err[0] and len(err[0]) < 500
    for content, status, problem in (
        (b"", 2, "edgecap: labels: none is named"),
        (b"\xff\xfe\0d\0o", 2, f"edgecap: {file}: is no text in UTF-8"),
        (b"r" * 10_000, 2, "edgecap: labels: a label has at most 200 characters, not 10,000: rrrrrrrrrrrrrrrrrrrr..."),
        (b"red\0", 2, "edgecap: labels: the label 'red\\x00' has a character that is no text"),
    ):
        file.write_bytes(content)
        assert edgecap_here(*own, file) == (status, [], [problem])
    assert edgecap_here(*own, tmp_path / "no.txt") == (
        1,
        [],
        [f"edgecap: {tmp_path / 'no.txt'}: No such file or directory"],
    )


def test_100_000_labels_that_are_in_the_table_are_labels(photo: Photo, tmp_path: Path) -> None:
    """A synonym of one label each."""
    red, *others = LABELS
    many = (*red, *(f"word {number}" for number in range(99_990)))
    bundle = write_label_bundle(tmp_path / "bundle", table=label_table(names=(many, *others)))
    file = tmp_path / "words.txt"
    file.write_text("\n".join(many), encoding="utf-8")
    own = ("label", photo("red.jpg", "red"), "--bundle", bundle, "--labels-file", file)
    assert edgecap_here(*own, "--top", 2) == (0, ["red 0.88, rot 0.88"], [])


def test_tables(label_bundle: Path, photo: Photo, tmp_path: Path) -> None:
    red, file = photo("red.jpg", "red"), tmp_path / "table.json"
    own = ("label", red, "--bundle", label_bundle, "--table", file)
    document = label_table(names=tuple((f"{names[0]} things",) for names in LABELS)).to_json()
    file.write_bytes(json_bytes(document))
    assert edgecap_here(*own, "--top", 1) == (0, ["red things 0.88"], [])
    for changes, status, problem in (
        ({"space": "clip"}, 2, f"edgecap: {file}: is a table of the space 'clip' (3 wide), tiny-labels@"),
        ({"slopes": [float("nan")] * 6}, 1, f"edgecap: {file}: is not JSON as bundles have it: NaN is no number"),
        (
            {"scales": "AADAfwAAgD8AAIA/AACAPwAAgD8AAIA/"},
            1,
            f"edgecap: {file}: is wrong: labels.scales must be between",
        ),
        ({"names": [["red"]] * 6}, 1, f"edgecap: {file}: is wrong: the label 'red' stands twice"),
        ({"names": [["r" * 10_000]] * 6}, 1, f"edgecap: {file}: is wrong: a label has at most 200 characters"),
        ({"names": []}, 1, f"edgecap: {file}: is wrong: a table has 1 to 100,000 labels, not 0"),
    ):
        file.write_bytes(json_bytes({**document, **changes}))
        code, out, err = edgecap_here(*own)
        assert (code, out, len(err)) == (status, [], 1) and err[0].startswith(problem)
    file.unlink()
    assert edgecap_here(*own) == (1, [], [f"edgecap: {file}: cannot be read: No such file or directory"])


def test_a_bundle_of_the_other_task_is_wrong_usage(label_bundle: Path, tiny_bundle: Path, photo: Photo) -> None:
    red = photo("red.jpg", "red")
    for command in ("caption", "bench"):
        code, out, err = edgecap_here(command, red, "--bundle", label_bundle)
        is_for = "is a labeller, where a captioner is needed: it is for  edgecap label, or load_labeller() in Python"
        assert (code, out, err) == (2, [], [f"edgecap: {label_bundle}: {is_for}"])
    code, out, err = edgecap_here("label", red, "--bundle", tiny_bundle)
    is_for = "is a captioner, where a labeller is needed: it is for  edgecap caption, or load() in Python"
    assert (code, out, err) == (2, [], [f"edgecap: {tiny_bundle}: {is_for}"])


def test_without_a_bundle_it_says_how_to_name_one(photo: Photo) -> None:
    code, out, (line,) = edgecap_here("label", photo("red.jpg", "red"))
    assert (code, out) == (2, []) and line.startswith("edgecap: no labeller comes with this version of edgecap: name ")
    assert "edgecap label --bundle DIR" in line


def test_a_machine_that_does_otherwise_is_told_of_once(photo: Photo, tmp_path: Path) -> None:
    bundle = write_label_bundle(tmp_path / "bundle")
    write_label_golden(bundle, encoded("red", file_format="PNG"), lambda record: record.update(labels={"blue": 1.0}))
    own = ("label", photo("red.jpg", "red"), "--bundle", bundle)
    code, out, err = edgecap(*own, EDGECAP_GOLDEN=str(tmp_path / "golden.json"))
    assert (code, out, len(err)) == (0, [RED], 1)
    assert err[0].startswith("edgecap: labels may be wrong: on this machine the golden photo of tiny-labels@")
    assert "label 1 is 'red', 'blue' was recorded" in err[0]
