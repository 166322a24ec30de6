"""The timing script prints a row for every thread count and beam, and its parts add up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecap.benchmarks.latency import main


def test_a_row_for_every_setting(tiny_bundle: Path, photo: Callable[..., Path]) -> None:
    arguments = [str(photo("red.jpg", "red")), "--bundle", str(tiny_bundle), "--threads", "1,2", "--beams", "1,3"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    head, _, *table = result.output.splitlines()
    assert head.startswith("tiny-test int8, onnxruntime ") and head.endswith("1 photos, medians in ms")
    rows = [[float(cell) for cell in row.strip("| ").split(" | ")] for row in table[2:]]
    assert [row[:2] for row in rows] == [[1, 1], [1, 3], [2, 1], [2, 3]]
    for _, _, prepared, encoded, stepped, total in rows:  # of one photo the medians are its figures
        assert total == pytest.approx(prepared + encoded + stepped, abs=0.2) and total > 0


def test_the_engine_may_be_chosen(two_runtimes: Path, photo: Callable[..., Path]) -> None:
    arguments = [str(photo("red.jpg", "red")), "--bundle", str(two_runtimes), "--backend", "tflite"]
    result = CliRunner().invoke(main, [*arguments, "--precision", "fp32", "--threads", "1", "--beams", "1"])
    assert result.exit_code == 0 and result.output.startswith("tiny-test fp32, ai-edge-litert ")
