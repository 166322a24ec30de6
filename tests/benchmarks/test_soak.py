"""Memory over many photos: flat, and found where it is not."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from edgecap.benchmarks.soak import MOST_GROWTH, check_flat, growth, streamed


@pytest.mark.parametrize("engine", ["onnx", "tflite"])
def test_memory_stays_flat(two_runtimes: Path, tmp_path: Path, engine: str) -> None:
    """As in ten thousand photos, by ``python -m edgecap.benchmarks.soak``."""
    curve = streamed(two_runtimes, 300, tmp_path, engine)
    assert len(curve) > 250 and all(10 < megabytes < 1000 for _, megabytes in curve)
    assert growth(curve) < MOST_GROWTH
    check_flat(curve)


def test_memory_that_grows_is_found() -> None:
    leak = [(float(photo), 60 + photo * 0.005) for photo in range(1, 301)]  # 5 kB a photo
    assert growth(leak) == pytest.approx(0.005 * 240)
    with pytest.raises(click.ClickException, match=r"61\.5 MB after 300 photos, \+1\.20 MB .*: not flat, 1 MB"):
        check_flat(leak)


def test_a_stream_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="ended with 1 after 0 photos"):
        streamed(tmp_path / "none", 100, tmp_path)
