"""``tests/cpus/compare.py``, which judges what CPUs said, and the count of instructions that tells them apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from places import TESTS

CPUS = TESTS / "cpus"
BUNDLE = "plus@0123456789ab"
DOG = {"1.jpg": "A dog runs.", "2.jpg": "A boy jumps."}
CAT = {**DOG, "2.jpg": "A girl jumps."}


def write(
    folder: Path,
    name: str,
    captions: dict[str, str],
    graphs: str = "onnx int8",
    verified: str = "ok       files: 13\n",
) -> None:
    """What tests/cpus/run records of a CPU."""
    (folder / f"{name}.verify").write_text(verified)
    entries: list[dict[str, object]] = [{"bundle": BUNDLE, "photo": photo, "tensor": "0"} for photo in captions]
    for beam in (1, 5):
        for photo, caption in captions.items():
            said = {"photo": photo, "caption": caption, "log_prob": -1.25}
            entries.append({"bundle": BUNDLE, "graphs": graphs, "beam": beam, **said})
    lines = [json.dumps(entry) for entry in [*entries, {"seconds": 9}]]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def compare(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, CPUS / "compare.py", folder, *names], capture_output=True, text=True)


def test_equal_captions_pass(tmp_path: Path) -> None:
    write(tmp_path, "here", DOG)
    write(tmp_path, "a53", DOG)
    run = compare(tmp_path, "here", "a53")
    assert run.returncode == 0 and "cpus: 0 of 4 captions differ" in run.stdout
    assert "| 1.jpg | same | -1.2500 | -1.2500 | A dog runs. |" in run.stdout
    assert "| plus, onnx int8, beam 5 | 0 of 2; 0.0000 |" in run.stdout


def test_another_caption_is_shown_and_fails(tmp_path: Path) -> None:
    write(tmp_path, "here", DOG)
    write(tmp_path, "a53", DOG)
    write(tmp_path, "a72", CAT)
    run = compare(tmp_path, "here", "a53", "a72")
    assert run.returncode == 1 and "2 of 8 captions differ" in run.stderr
    assert "too many of: ['plus, onnx int8, beam 1 on a72', 'plus, onnx int8, beam 5 on a72']" in run.stderr
    assert "| 2.jpg | DIFFER | -1.2500 | -1.2500 | -1.2500 | A boy jumps. |" in run.stdout
    assert "|  |  |  |  | this | A girl jumps. |" in run.stdout
    assert "| plus, onnx int8, beam 1 | 0 of 2; 0.0000 | 1 of 2; 0.0000 |" in run.stdout


def test_int8_captions_may_differ_in_one_of_ten_and_fp32_in_none(tmp_path: Path) -> None:
    many = {f"{n}.jpg": "A dog runs." for n in range(20)}
    for other, graphs, status in ((2, "onnx int8", 0), (3, "onnx int8", 1), (1, "onnx fp32", 1)):
        write(tmp_path, "here", many, graphs=graphs)
        write(tmp_path, "a53", {**many, **{f"{n}.jpg": "A cat runs." for n in range(other)}}, graphs=graphs)
        run = compare(tmp_path, "here", "a53")
        assert run.returncode == status and run.stdout.count("DIFFER") == 2 * other, (other, graphs)
        assert f"{2 * other} of 40 captions differ" in run.stdout + run.stderr


def test_a_cpu_that_did_not_get_to_the_end_fails(tmp_path: Path) -> None:
    write(tmp_path, "here", DOG)
    (tmp_path / "a53.verify").write_text("ok       files: 13\n")
    run = compare(tmp_path, "here", "a53")
    assert run.returncode == 1 and "['a53']" in run.stderr


def test_a_bundle_that_does_not_verify_fails(tmp_path: Path) -> None:
    write(tmp_path, "here", DOG)
    for line in ("FAILED   onnx int8: h0 is 3 away\n", "skipped  tflite int8: no engine\n", ""):
        write(tmp_path, "haswell", DOG, verified=line)
        run = compare(tmp_path, "here", "haswell")
        assert run.returncode == 1 and "['haswell']" in run.stderr, line
        assert not line or f"haswell: {line}" in run.stdout


def test_instructions_are_counted_in_the_emulators_log(tmp_path: Path) -> None:
    log = tmp_path / "code"
    log.write_text(
        "----------------\nIN: \n"
        "0x4002f5ab56:  c4 e2 7d 78 ff           vpbroadcastb %xmm7, %ymm7\n"
        "0x4002f5ab57:  c4 e2 7d 04 ff           vpmaddubsw %ymm0, %ymm7, %ymm7\n"
        "0x4002f5ab5c:  66 0f 38 04 c1           pmaddubsw %xmm1, %xmm0\n"
        "0x55000a1234:  4e829420  .byte  0x20, 0x94, 0x82, 0x4e\n"  # sdot v0.4s, v1.16b, v2.16b
        "0x55000a1238:  4e22d420  fadd     v0.4s, v1.4s, v2.4s\n"
    )
    run = subprocess.run([sys.executable, CPUS / "instructions.py", log], check=True, capture_output=True, text=True)
    assert json.loads(run.stdout) == {"instructions": {"AVX": 2, "dot product": 1}}
