"""What photos of every kind take is reckoned before they are decoded, and is what they take at most."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ENVIRONMENT, encoded
from PIL import Image
from test_preprocess import CONFIG, saved

from edgecap.errors import ImageError
from edgecap.runtime.machine.facts import free_memory
from edgecap.runtime.photo import limits as photo_limits
from edgecap.runtime.photo.preprocess import load_image

SIDES = (2000, 1500)
SLACK = 6 * 2**20  # bytes: the allocator's, and those of libraries that are loaded at their first use

KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *(("JPEG", mode, {"progressive": progressive}) for mode in ("L", "RGB", "CMYK") for progressive in (False, True)),
    ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
    *(("PNG", mode, {"compress_level": 1}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ("GIF", "P", {}),
    *(("BMP", mode, {}) for mode in ("1", "P", "RGB", "RGBA")),
    *(("WEBP", mode, {"method": 0}) for mode in ("RGB", "RGBA")),
    *(("TIFF", mode, {}) for mode in ("1", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "F", "I;16")),
    *(("TIFF", "RGB", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
    *(("TIFF", "RGB", {"compression": "tiff_lzw", "tiffinfo": {key: value}}) for key, value in ((274, 6), (278, 2000))),
    ("AVIF", "RGB", {"speed": 10}),
    ("JPEG2000", "RGB", {"quality_mode": "rates", "quality_layers": [40], "irreversible": True}),
    *(("PPM", mode, {}) for mode in ("1", "L", "RGB")),
)


def soft(mode: str) -> Image.Image:
    """Large, of a mode, and neither flat nor noise."""
    ramp = np.add.outer(np.arange(SIDES[1]) // 3, np.arange(SIDES[0]) // 5).astype(np.uint8)
    grey = Image.fromarray(ramp)
    if mode == "I;16":
        return Image.fromarray(ramp.astype(np.uint16) * 257)
    bands = {"LAB": 3, "CMYK": 4, "RGBA": 4, "RGB": 3, "LA": 2}.get(mode)
    return Image.merge(mode, [grey] * bands) if bands else grey.convert(mode)


# Run by a fresh Python, whose heap has no room left from other photos. Each photo is read in a child of its own.
MEASURE = """
import json, os, sys
from pathlib import Path
from edgecap.runtime.photo import file as photo_file, preprocess
from edgecap.runtime.photo.preprocess import PreprocessConfig, load_image

def highest():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

reckoned = []
photo_file.check = lambda cost, size: reckoned.append(cost.memory)
config = PreprocessConfig(mean=(0.5,) * 3, std=(0.5,) * 3, size=32)
preprocess._DRAFT_SCALE = 100  # JPEGs are decoded in full
folder = Path(sys.argv[1])
for small in (folder / "small").iterdir():  # so that all libraries are loaded
    load_image(small, config)
for photo in sorted(folder.glob("[0-9]*")):
    if os.fork() == 0:
        Path("/proc/self/clear_refs").write_text("5")  # from here on the highest is counted anew
        before = highest()
        load_image(photo, config)
        print(json.dumps([int(photo.name), highest() - before, reckoned[-1]]), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="what a process takes is not told here")
def test_what_is_reckoned_is_what_is_taken(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    for number, (file_format, mode, options) in enumerate(KINDS):
        image = soft(mode)
        try:
            (tmp_path / f"{number:02}").write_bytes(saved(image, file_format, **options))
        except KeyError:
            assert file_format in ("AVIF", "JPEG2000")  # which this Pillow has not
            continue
        (tmp_path / "small" / str(number)).write_bytes(saved(image.crop((0, 0, 64, 64)), file_format, **options))
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, str(tmp_path)]
    run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    measured = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(measured) >= len(KINDS) - 2
    for number, taken, said in measured:
        told = f"{KINDS[number]}: {taken >> 20} MB were taken, {said >> 20} reckoned"
        assert taken <= said + SLACK, told
        assert said <= 3 * taken + photo_limits._STRIPS + SLACK, told


def test_the_limit_follows_what_the_machine_has_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    photo = saved(soft("RGB"), "JPEG", progressive=True, subsampling=0)
    huge = saved(soft("RGB").resize((8000, 3000)), "PNG", compress_level=1)
    assert load_image(huge, CONFIG).size == (32, 32)
    monkeypatch.setattr(photo_limits, "free_memory", lambda: 100 * 2**20)
    with pytest.raises(ImageError, match=r"take \d+ MB of memory, 75 can be had here$"):
        load_image(huge, CONFIG)
    assert load_image(photo, CONFIG).size == (32, 32)
    monkeypatch.setattr(photo_limits, "free_memory", lambda: None)
    assert load_image(huge, CONFIG).size == (32, 32)


def test_free_memory_is_what_the_machine_and_its_control_groups_leave(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    assert free_memory(tmp_path) is None
    (tmp_path / "proc/meminfo").write_text("MemTotal: 500000 kB\nMemAvailable: 300000 kB\nSwapFree: 0 kB\n")
    assert free_memory(tmp_path) == 300_000 * 1024
    (tmp_path / "proc/self/cgroup").write_text("0::/user/photos\n")
    group = tmp_path / "sys/fs/cgroup/user"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("90000000\n")
    (group / "memory.max").write_text("max\n")
    assert free_memory(tmp_path) == 300_000 * 1024
    (group / "memory.max").write_text("100000000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 1000000\n")
    assert free_memory(tmp_path) == 11_000_000
    (tmp_path / "proc/self/cgroup").write_text("3:memory:/photos\n")
    group = tmp_path / "sys/fs/cgroup/memory/photos"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("2000\n")
    (group / "memory.usage_in_bytes").write_text("3000\n")
    assert free_memory(tmp_path) == 0


def test_small_photos_are_read_where_nothing_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_limits, "free_memory", lambda: 0)
    assert load_image(encoded("red", (640, 480)), CONFIG).size == (32, 32)
