"""``edgecap caption`` as people and scripts call it: output, one line per error, exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, coloured, edgecap, encoded, png_header
from PIL import Image
from tiny_bundle import onnx_graphs, write_tiny_bundle

Photo = Callable[..., Path]


def test_one_photo_is_only_its_caption(tiny_bundle: Path, photo: Photo) -> None:
    assert edgecap("caption", photo("red.jpg", "red"), "--bundle", tiny_bundle) == (0, ["A red photo."], [])


@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_several_photos_are_named(tiny_bundle: Path, photo: Photo, batch_size: int) -> None:
    red, blue, green = photo("red.jpg", "red"), photo("blue.png", "blue"), photo("green.jpg", "lime")
    code, out, err = edgecap("caption", red, blue, green, "--bundle", tiny_bundle, "--batch-size", batch_size)
    assert (code, err) == (0, [])
    assert out == [f"{red}: A red photo.", f"{blue}: A blue photo.", f"{green}: A green photo."]


def test_a_directory_is_its_photos_in_order(tiny_bundle: Path, photo: Photo, tmp_path: Path) -> None:
    blue, red = photo("a.JPG", "blue"), photo("b.png", "red")
    (tmp_path / "notes.txt").write_text("not a photo, and not asked for")
    (tmp_path / "deeper.jpg").mkdir()
    code, out, err = edgecap("caption", tmp_path, "--bundle", tiny_bundle)
    assert (code, out) == (0, [f"{blue}: A blue photo.", f"{red}: A red photo."])
    assert err == [f"edgecap: {tmp_path}: skipped 1 folder; 1 that is no photo"]


def test_a_photo_on_stdin(tiny_bundle: Path) -> None:
    arguments = ("caption", "-", "--bundle", tiny_bundle)
    assert edgecap(*arguments, stdin=encoded("red")) == (0, ["A red photo."], [])
    assert edgecap(*arguments, stdin=b"") == (1, [], ["edgecap: -: is empty"])


def test_json_has_a_record_for_every_photo(tiny_bundle: Path, photo: Photo) -> None:
    red = photo("red.jpg", "red")
    code, out, err = edgecap("caption", red, "no.jpg", "--json", "--bundle", tiny_bundle, "--precision", "fp32")
    assert (code, err) == (1, ["edgecap: no.jpg: no such file"])
    record, failure = map(json.loads, out)
    assert failure == {"path": "no.jpg", "error": "no such file"}
    assert record["path"] == str(red) and record["caption"] == "A red photo."
    assert record["confidence"] is None and "sure" not in record
    assert record["tokens"] == ["a", "red", "photo"] and record["log_prob"] < 0 and record["truncated"] is False
    assert set(record["timings_ms"]) == {"preprocess", "encoder", "steps", "total"}
    assert record["bundle"].startswith("tiny-test@") and record["precision"] == "fp32"
    assert re.fullmatch(r"onnxruntime \d\S+", record["library"])


def test_the_best_captions_are_a_line_each(tiny_bundle: Path, photo: Photo) -> None:
    red, blue = photo("red.jpg", "red"), photo("blue.jpg", "blue")
    arguments = ("--bundle", tiny_bundle, "--n-best", 2)
    code, out, err = edgecap("caption", red, blue, *arguments)
    assert (code, err, len(out)) == (0, [], 4)
    assert [line.partition(": ")[0] for line in out] == [str(red)] * 2 + [str(blue)] * 2
    assert out[0] == f"{red}: A red photo." and out[2] == f"{blue}: A blue photo."
    code, out, err = edgecap("caption", red, *arguments, "--json")
    record = json.loads(out[0])
    first, second = record["n_best"]
    assert (code, err) == (0, []) and set(first) == {"text", "log_prob", "tokens"}
    assert [first["text"], first["log_prob"], first["tokens"]] == [
        record["caption"],
        record["log_prob"],
        record["tokens"],
    ]
    assert second["log_prob"] <= first["log_prob"] and second["text"] != first["text"]
    assert edgecap("caption", red, "--bundle", tiny_bundle, "--beam", 2, "--n-best", 3)[0] == 2


def test_every_engine_keeps_stderr_clean(two_runtimes: Path, photo: Photo) -> None:
    red, blue = photo("red.jpg", "red"), photo("blue.jpg", "blue")
    for engine, library in (("auto", "onnxruntime"), ("onnx", "onnxruntime"), ("tflite", "ai-edge-litert")):
        arguments = ("caption", red, blue, "--bundle", two_runtimes, "--engine", engine)
        assert edgecap(*arguments) == (0, [f"{red}: A red photo.", f"{blue}: A blue photo."], [])
        code, out, err = edgecap(*arguments, "--json", "--beam", 6)
        assert (code, err) == (0, []) and all(json.loads(line)["library"].startswith(f"{library} ") for line in out)


def test_a_precision_that_is_replaced_is_noted_on_stderr(photo: Photo, tmp_path: Path) -> None:
    good = onnx_graphs()["fp32"]
    bundle = write_tiny_bundle(tmp_path / "bundle", {"int8": (b"an operator\nof tomorrow", good[1]), "fp32": good})
    red = photo("red.jpg", "red")
    code, out, (note,) = edgecap("caption", red, "--bundle", bundle)
    assert (code, out) == (0, ["A red photo."])
    assert re.fullmatch(r"edgecap: int8 graphs do not load in onnxruntime \S+ \(.+\): fp32 is used", note)
    code, out, (line,) = edgecap("caption", red, "--bundle", bundle, "--precision", "int8")
    assert (code, out) == (1, []) and "encoder: does not load in onnxruntime" in line


def test_options_reach_the_search(tiny_bundle: Path, photo: Photo) -> None:
    arguments = ("--max-length", 2, "--beam", 1, "--length-penalty", 0.5, "--threads", 1, "--bundle", tiny_bundle)
    assert edgecap("caption", photo("red.jpg", "red"), *arguments) == (0, ["A red."], [])


@pytest.fixture
def bad_photos(tmp_path: Path) -> dict[Path, str]:
    """Every kind of bad input, with what stderr must say of it."""
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "empty directory").mkdir()
    jpeg = encoded("red", (640, 480))
    # Three samples a pixel become 2,048: Pillow logs an error of its own about that.
    tiff = encoded("red", file_format="TIFF").replace(b"\x15\x01\x03\0\1\0\0\0\3\0", b"\x15\x01\x03\0\1\0\0\0\0\x08")
    contents = {
        "samples.tif": (tiff, "is not a photo that Pillow can read"),
        "text.jpg": (b"this is a text file\n", "is not a photo that Pillow can read"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "is truncated or damaged: "),
        "zero.jpg": (b"", "is empty"),
        "bomb.png": (png_header(30_000, 30_000), "is too large to decode: "),
    }
    for name, (content, _) in contents.items():
        (bad / name).write_bytes(content)
    Image.new("RGB", (1, 1)).save(bad / "one.png")
    return {
        **{bad / name: problem for name, (_, problem) in contents.items()},
        bad / "one.png": "1 x 1 pixels is too small to describe (at least 16 x 16)",
        bad / "missing.jpg": "no such file",
        bad / "empty directory": "has no photos in it",
    }


@pytest.mark.parametrize("batch_size", [1, 3])
def test_bad_photos_are_named_and_the_others_captioned(
    tiny_bundle: Path, photo: Photo, bad_photos: dict[Path, str], tmp_path: Path, batch_size: int
) -> None:
    gif = tmp_path / "animated.gif"
    coloured("blue", (40, 40)).save(gif, save_all=True, append_images=[coloured("red", (40, 40))])
    red, *bad, green = photo("red.jpg", "red"), *bad_photos, photo("green.jpg", "lime")
    mixed = [red, *bad[:3], gif, *bad[3:], green]
    code, out, err = edgecap("caption", *mixed, "--bundle", tiny_bundle, "--batch-size", batch_size)
    assert code == 1
    assert out == [f"{red}: A red photo.", f"{gif}: A blue photo.", f"{green}: A green photo."]
    assert len(err) == len(bad)
    for line, path in zip(err, bad, strict=True):
        assert line.startswith(f"edgecap: {path}: {bad_photos[path]}")


def test_a_bad_bundle_is_one_line_and_nothing_is_captioned(own_bundle: Path, photo: Photo, tmp_path: Path) -> None:
    def spoilt(name: str, spoil: Callable[[Path], object]) -> Path:
        shutil.copytree(own_bundle, tmp_path / name)
        spoil(tmp_path / name)
        return tmp_path / name

    def newer(bundle: Path) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text())
        (bundle / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 3}))

    def changed(bundle: Path) -> None:
        content = bytearray((bundle / "encoder.fp32.onnx").read_bytes())
        content[100] ^= 1
        (bundle / "encoder.fp32.onnx").write_bytes(content)

    red = photo("red.jpg", "red")
    for bundle, problem in {
        spoilt("changed", changed): r"encoder.fp32.onnx: does not match its sha256",
        spoilt("missing", lambda bundle: (bundle / "vocab.json").unlink()): r"vocab.json: is missing",
        spoilt("newer", newer): r"made for a newer edgecap \(schema 3, this one reads 2\): upgrade edgecap",
        tmp_path / "nowhere": "no such bundle",
    }.items():
        code, out, (line,) = edgecap("caption", red, "--bundle", bundle)
        assert (code, out) == (1, [])
        assert line.startswith("edgecap: ") and re.search(problem, line)


@pytest.mark.parametrize(
    "arguments",
    [
        ("caption",),
        ("caption", "x.jpg", "--beam", "0"),
        ("caption", "x.jpg", "--precision", "int4"),
        ("caption", "x.jpg", "--max-length", "many"),
        ("describe", "x.jpg"),
        ("caption", "x.jpg", "--length-penalty", "nan"),
        ("caption", "x.jpg", "--engine", "abacus"),
        ("caption", "x.jpg", "--precision", "fp16"),  # which this bundle does not have
        ("caption", "x.jpg", "--engine", "tflite"),  # likewise
    ],
)
def test_wrong_usage_is_exit_2(tiny_bundle: Path, arguments: tuple[str, ...]) -> None:
    bundle = ("--bundle", tiny_bundle) if len(arguments) > 2 else ()
    code, out, err = edgecap(*arguments, *bundle)
    assert (code, out) == (2, []) and err and "Traceback" not in "".join(err)


def test_odd_names_stay_on_one_line(tiny_bundle: Path, photo: Photo, tmp_path: Path) -> None:
    red = photo("two\nlines.jpg", "red")
    odd = os.fsencode(tmp_path) + b"/\xff.jpg"
    arguments = ("caption", red, os.fsdecode(odd), "", "\u0142.jpg", "--bundle", tiny_bundle)
    code, out, err = edgecap(*arguments, PYTHONIOENCODING="latin-1")
    assert code == 1
    assert out == [f"{tmp_path}/two\\nlines.jpg: A red photo."]
    problems = [f"{tmp_path}/\\udcff.jpg", "", "\\u0142.jpg"]
    assert err == [f"edgecap: {name}: no such file" for name in problems]


def test_help_and_version_import_nothing_heavy() -> None:
    code, out, err = edgecap("--help")
    assert (code, err) == (0, [])
    commands = [line.split()[0] for line in out[out.index("Commands:") + 1 :]]
    assert commands == ["train", "eval", "export", "caption", "label", "labels", "bench", "verify", "inspect", "doctor"]
    assert edgecap("-h")[1] == out
    assert re.fullmatch(r"edgecap, version \d+\.\d+\.\d+", edgecap("--version")[1][0])
    assert any("every photo was captioned" in line for line in edgecap("caption", "-h")[1])
    check = "import sys, edgecap.cli; from edgecap.cli.caption import caption; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, env=ENVIRONMENT)


def test_a_reader_that_left_is_no_traceback(tiny_bundle: Path, photo: Photo) -> None:
    red = photo("red.jpg", "red")
    command = [sys.executable, "-m", "edgecap", "caption", "--bundle", str(tiny_bundle), *[str(red)] * 50]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_an_interrupt_is_exit_130(tiny_bundle: Path, photo: Photo) -> None:
    command = [
        sys.executable,
        "-m",
        "edgecap",
        "caption",
        "--bundle",
        str(tiny_bundle),
        str(photo("red.jpg", "red")),
        "-",
    ]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        # a shell makes what runs in its background deaf to it, tests and all
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()  # the first caption is out: now it waits for stdin
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b""


def test_real_photos_get_a_line_each(tiny_bundle: Path, real_photos: list[Path]) -> None:
    code, out, err = edgecap("caption", *real_photos, "--bundle", tiny_bundle)
    assert (code, err) == (0, [])
    assert [line.partition(": ")[0] for line in out] == [str(path) for path in real_photos]
