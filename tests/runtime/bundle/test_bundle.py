"""A bundle is found, opened, and refused when a byte of it is not what it was."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from edited_bundle import Edit, edit_document, edit_manifest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_bundle import DIMS, GENERATION, PREPROCESS, VOCABULARY, write_tiny_bundle

from edgecap.errors import BundleError
from edgecap.runtime.bundle.bundle import Bundle, embedded_bundles, find_bundle
from edgecap.runtime.bundle.entries import FileEntry, is_inside
from edgecap.runtime.bundle.files import MANIFEST
from edgecap.runtime.bundle.manifest import Manifest, bundle_id


def test_an_opened_bundle_has_what_was_written(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    assert (bundle.vocabulary, bundle.preprocess, bundle.generation) == (VOCABULARY, PREPROCESS, GENERATION)
    assert bundle.manifest.dims == DIMS
    assert bundle.precisions("onnx") == ("int8", "fp32") and bundle.precisions("tflite") == ()
    encoder = bundle.files(bundle.graph_set("onnx", "fp32"))["encoder"]
    assert bundle.read(encoder) == (tiny_bundle / encoder.path).read_bytes()
    assert Manifest.from_json(json.loads(json.dumps(bundle.manifest.to_json()))) == bundle.manifest


def test_the_identity_follows_the_content_not_the_order() -> None:
    one, other = (FileEntry(f"{name}.json", "eval", name * 64, 1) for name in "ab")
    assert bundle_id([one, other]) == bundle_id([other, one]) != bundle_id([one, replace(other, sha256="c" * 64)])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_changed_byte_goes_unnoticed(tiny_bundle: Path, tmp_path: Path, data: st.DataObject) -> None:
    damaged = tmp_path / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(tiny_bundle, damaged)
    name = data.draw(st.sampled_from(sorted(str(p.relative_to(damaged)) for p in damaged.rglob("*") if p.is_file())))
    content = bytearray((damaged / name).read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    (damaged / name).write_bytes(content)
    try:
        opened = Bundle.open(damaged)
    except BundleError as error:
        assert name in str(error) or "newer edgecap" in str(error)
        assert "\n" not in str(error)
    else:  # white space of the manifest is not content
        assert name == MANIFEST and opened.manifest == Bundle.open(tiny_bundle).manifest


@pytest.mark.parametrize("name", ["vocab.json", "encoder.int8.onnx", "golden/note.txt"])
def test_a_missing_file_is_named(own_bundle: Path, name: str) -> None:
    (own_bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: is missing"):
        Bundle.open(own_bundle)


def test_a_longer_file_is_torn(own_bundle: Path) -> None:
    with (own_bundle / "encoder.fp32.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"encoder.fp32.onnx: does not match its sha256 .* torn or edited"):
        Bundle.open(own_bundle)


def test_a_file_changed_after_opening_is_not_used(own_bundle: Path) -> None:
    bundle = Bundle.open(own_bundle)
    entry = bundle.files(bundle.graph_set("onnx", "fp32"))["encoder"]
    content = (own_bundle / entry.path).read_bytes()
    (own_bundle / entry.path).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match="torn or edited"):
        bundle.read(entry)


def test_newer_makers_are_told_apart_from_damage(own_bundle: Path) -> None:
    """Whatever stands in the other fields, which may mean anything then."""
    edit_manifest(own_bundle, lambda document: document.update(schema_version=3, files=7), sealed=False)
    problem = r"was made for a newer edgecap \(schema 3, this one reads 2\): upgrade edgecap"
    with pytest.raises(BundleError, match=problem):
        Bundle.open(own_bundle)
    edit_manifest(own_bundle, lambda document: document.update(schema_version=2, min_runtime="99.1"), sealed=False)
    with pytest.raises(BundleError, match=r"newer edgecap \(99.1, this is .*\): upgrade edgecap"):
        Bundle.open(own_bundle)


def test_older_makers_are_told_what_to_do(own_bundle: Path) -> None:
    edit_manifest(own_bundle, lambda document: document.update(schema_version=1), sealed=False)
    problem = r"was made by an older edgecap \(schema 1, this one reads 2\): export its checkpoint again"
    with pytest.raises(BundleError, match=problem):
        Bundle.open(own_bundle)


def test_a_newer_min_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"newer edgecap \(99.1, this is .*\): upgrade"):
        Bundle.open(write_tiny_bundle(tmp_path / "new", min_runtime="99.1"))


def test_unknown_keys_are_ignored(own_bundle: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["colour_of_the_shed"] = "red"
        document["files"][0]["mood"] = 1
        document["dims"]["heads"] = 2

    edit_manifest(own_bundle, edit)
    assert Bundle.open(own_bundle).manifest.name == "tiny-test"


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda d: d.pop("name"), "manifest lacks 'name'"),
        (lambda d: d.update(name=3), "manifest.name must be a string, not 3"),
        (lambda d: d["dims"].update(locations=True), "manifest.dims.locations must be a whole number"),
        (lambda d: d["dims"].update(locations=0), "dims.locations must be positive"),
        (lambda d: d["dims"].pop("vocab_size"), "dims lack 'vocab_size'"),
        (lambda d: d["dims"].update(vocab_size=7), "of 7 words by its dims"),
        (lambda d: d["dims"].update(image_size=64), "its graphs take 64"),
        (lambda d: d["files"][0].update(role="poem"), "unknown role 'poem'"),
        (lambda d: d["files"].pop(1), "one file of the role 'vocab' is needed"),
        (lambda d: d["files"].append(d["files"][3]), "listed twice"),
        (lambda d: d["files"][4]["graph"].update(precision="int4"), "unknown precision 'int4'"),
        (lambda d: d["files"][4]["graph"].update(engine="abacus"), "unknown engine 'abacus'"),
        (lambda d: d["files"][4].pop("graph"), "must say what graph it is"),
        (lambda d: d.update(task="sing"), r"unknown task 'sing' \(known: caption, label\): upgrade edgecap"),
        (lambda d: d.update(architecture="abacus"), r"unknown architecture 'abacus' \(known: .*\): upgrade edgecap"),
        (
            lambda d: d["graph_sets"][0]["graphs"].pop("decoder_step"),
            "graph set onnx-int8 has no decoder_step: exp",
        ),
        (lambda d: d["graph_sets"][0]["graphs"].update(poet="encoder.int8.onnx"), "onnx-int8 has a 'poet'"),
        (lambda d: d["graph_sets"][0]["graphs"].update(encoder="vocab.json"), "names 'vocab.json', which is no graph"),
        (lambda d: d["graph_sets"][0].update(engine="tflite", name="tflite-int8"), "which is a graph for onnx"),
        (lambda d: d["graph_sets"][0].update(name="int8"), "the graph set 'int8' must be called onnx- and a word"),
        (lambda d: d["graph_sets"].append(d["graph_sets"][0]), "two graph sets have one name"),
        (lambda d: d.update(min_runtime="soon"), "not a version"),
        (lambda d: d.update(schema_version=0), "an older edgecap"),
    ],
)
def test_a_wrong_manifest_says_what_is_wrong(own_bundle: Path, edit: Edit, problem: str) -> None:
    edit_manifest(own_bundle, edit)
    with pytest.raises(BundleError, match=problem):
        Bundle.open(own_bundle)


def tensor(document: dict[str, Any], role: str, side: str, name: str) -> dict[str, Any]:
    """A tensor of an fp32 graph, as the manifest lists it."""
    (file,) = (file for file in document["files"] if file["path"] == f"{role}.fp32.onnx")
    (found,) = (one for one in file["graph"][side] if one["name"] == name)
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("role", "side", "name", "change", "problem"),
    [
        ("encoder", "inputs", "image", {"name": "sound"}, r"the encoder's inputs are \['sound'\], not \['image'\]"),
        ("encoder", "outputs", "memory.keys", {"name": "keys"}, r"encoder's outputs must be memory\.\* and state\.\*"),
        ("encoder", "outputs", "memory.keys", {"name": "memory.x"}, "decoder step's inputs are "),
        ("encoder", "outputs", "memory.keys", {"shape": [1, 4, 9]}, "memory.keys is .* which does not fit "),
        ("encoder", "outputs", "state.h", {"name": "state.x"}, "makes state.x, which the decoder step does not take"),
        ("decoder_step", "outputs", "next.h", {"name": "next.x"}, "the decoder step's outputs are "),
        ("decoder_step", "outputs", "next.h", {"shape": ["N", "K", 5]}, "next.h is .* which does not fit "),
        ("decoder_step", "outputs", "log_probs", {"shape": ["N", "K", 5]}, "of 12 words by its dims"),
        ("decoder_step", "inputs", "token", {"name": "state.h"}, "lists two tensors of one name"),
    ],
)
def test_graphs_that_do_not_make_a_captioner_are_refused(
    own_bundle: Path, role: str, side: str, name: str, change: dict[str, Any], problem: str
) -> None:
    edit_manifest(own_bundle, lambda document: tensor(document, role, side, name).update(change))
    with pytest.raises(BundleError, match=problem) as caught:
        Bundle.open(own_bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["../vocab.json", "golden/../../vocab.json", "/etc/hostname", "", ".", "a\\..\\b", "C:x"]
)
def test_paths_that_lead_out_are_refused(own_bundle: Path, path: str) -> None:
    assert not is_inside(path)
    edit_manifest(own_bundle, lambda document: document["files"][1].update(path=path))
    with pytest.raises(BundleError, match="leads out of the bundle"):
        Bundle.open(own_bundle)


@pytest.mark.parametrize("link", ["vocab.json", "golden"])
def test_links_are_refused(own_bundle: Path, tmp_path: Path, link: str) -> None:
    (own_bundle / link).rename(tmp_path / link)
    (own_bundle / link).symlink_to(tmp_path / link)
    with pytest.raises(BundleError, match="is a symbolic link"):
        Bundle.open(own_bundle)


def test_a_bundle_reached_through_a_link_is_fine(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tiny_bundle)
    assert Bundle.open(tmp_path / "link").manifest == Bundle.open(tiny_bundle).manifest


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("vocab.json", b"{", "vocab.json: is not JSON"),
        ("vocab.json", b"\xff", "vocab.json: is not JSON"),
        ("vocab.json", b"[" * 100_000, "vocab.json: is not JSON"),
        ("vocab.json", b'{"tokens": ["a"]}', "vocab.json: is wrong"),
        ("preprocess.json", b"[]", "preprocess.json: is wrong: preprocess must be a JSON object, not list"),
        ("generation.json", b"{}", "generation.json: is wrong: generation lacks 'beam'"),
        ("generation.json", json.dumps({**GENERATION.to_json(), "beam": 0}).encode(), "beam must be between"),
        ("generation.json", json.dumps({**GENERATION.to_json(), "suppressed_tokens": ["!"]}).encode(), "suppressed"),
    ],
)
def test_a_wrong_document_is_named(own_bundle: Path, name: str, content: bytes, problem: str) -> None:
    edit_document(own_bundle, name, content)
    with pytest.raises(BundleError, match=problem):
        Bundle.open(own_bundle)


def test_a_huge_document_is_not_read(own_bundle: Path) -> None:
    with (own_bundle / MANIFEST).open("r+b") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(BundleError, match="is larger than"):
        Bundle.open(own_bundle)


def test_finding_a_bundle(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "plus" / "bundle")
    monkeypatch.setattr("edgecap.runtime.bundle.bundle._EMBEDDED", tmp_path)
    embedded = tmp_path / "plus" / "bundle"
    assert find_bundle() == find_bundle("plus") == find_bundle(tmp_path / "plus") == find_bundle(embedded) == embedded
    assert find_bundle(str(tiny_bundle)) == tiny_bundle
    wrongs: list[tuple[str | Path, str]] = [
        ("nothing", r"nothing: no such bundle \(embedded bundles: plus\)"),
        (tmp_path / "nothing", r"no such bundle \(embedded bundles: plus\)"),
        (tmp_path, r"is not a bundle: no manifest.json \(embedded bundles: plus\)"),
    ]
    for wrong, problem in wrongs:
        with pytest.raises(BundleError, match=problem):
            find_bundle(wrong)
    with pytest.raises(BundleError, match=r"is not a bundle: no manifest.json"):
        Bundle.open(tmp_path)


def test_a_bundle_in_the_working_directory_goes_before_an_embedded_one(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, here = tmp_path / "package", tmp_path / "here"
    for name in ("base", "plus"):
        shutil.copytree(tiny_bundle, package / name / "bundle")
    (package / "unfinished" / "bundle").mkdir(parents=True)
    here.mkdir()
    monkeypatch.setattr("edgecap.runtime.bundle.bundle._EMBEDDED", package)
    monkeypatch.chdir(here)
    assert embedded_bundles() == ["base", "plus"]
    assert find_bundle("base") == package / "base" / "bundle"
    (here / "base").mkdir()  # holds no bundle
    assert find_bundle("base") == package / "base" / "bundle"
    for wrong in ("./base", Path("base"), "unfinished", "tiny"):  # a path is never a name
        with pytest.raises(BundleError, match=r"\(embedded bundles: base, plus\)"):
            find_bundle(wrong)
    for mine in ("base", "plus", "own"):
        shutil.copytree(tiny_bundle, here / mine, dirs_exist_ok=True)
        assert find_bundle(mine) == find_bundle(f"./{mine}") == find_bundle(Path(mine)) == Path(mine)
    assert find_bundle() == package / "plus" / "bundle"  # whatever lies here
