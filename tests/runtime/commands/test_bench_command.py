"""``edgecap bench`` through its command: its report, by the schema, for people and as a picture; and what stops it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import edgecap, edgecap_here
from golden_bundle import write_golden
from PIL import Image

import edgecap as package
from edgecap.bench import report
from edgecap.bench.energy.meter import EnergySource, Measured
from edgecap.cli import bench as command
from edgecap.errors import EnergyError

SCHEMA = json.loads((Path(package.__file__).parent / "bench" / "bench.schema.json").read_text())
FEW = ("--captions", 5)


class TwoWatts:
    """A meter of a machine that draws 2 W, and 5 W while it captions."""

    measured = 0

    def start(self) -> None:
        pass

    def stop(self) -> Measured:
        TwoWatts.measured += 1
        return Measured(2.0, 4.0) if TwoWatts.measured % 2 else Measured(2.0, 10.0)


@pytest.fixture(autouse=True)
def metered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A power meter, and no wait for the idle machine."""
    TwoWatts.measured = 0
    monkeypatch.setattr(command, "energy_sources", lambda: [EnergySource("ina219", "the board", 0.01, TwoWatts)])
    monkeypatch.setattr(report, "IDLE_SECONDS", 0.0)
    yield


def written(path: Path) -> dict[str, Any]:
    """A report that the schema allows."""
    document: dict[str, Any] = json.loads(path.read_text())
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(document)
    return document


def test_a_report_for_every_number_of_threads(tiny_bundle: Path, photo: Callable[..., Path], tmp_path: Path) -> None:
    photos = [photo("red.jpg", "red"), photo("blue.jpg", "blue")]
    target = tmp_path / "bench.json"
    arguments = ("--bundle", tiny_bundle, "--threads", "1,2", "--beam", 2, "--json", target, *FEW)
    code, out, _ = edgecap_here("bench", *photos, *arguments)
    assert code == 0
    document = written(target)
    assert (document["photos"], document["captions"]) == (2, 5)
    assert [(run["threads"], run["beam"], run["precision"]) for run in document["runs"]] == [
        (1, 2, "int8"),
        (2, 2, "int8"),
    ]
    for run in document["runs"]:
        latency = run["latency"]
        assert [latency[part]["n"] for part in ("preprocess", "encoder", "search", "total")] == [5] * 4
        assert latency["step"]["n"] == 5 * latency["steps_per_caption"] == 5 * 4  # a, colour, photo, the end
        # The first step has one hypothesis, the others two.
        assert latency["hypotheses_per_caption"] == 7
        assert all(
            times["p50"] <= times["p90"] <= times["p99"] for times in latency.values() if isinstance(times, dict)
        )
        parts = [latency[part]["mean"] for part in ("preprocess", "encoder", "search")]
        assert 0 < sum(parts) + 4 * latency["step"]["mean"] <= latency["total"]["mean"]
        assert latency["images_per_second"] <= 1000 / latency["total"]["mean"]
        cold = run["cold_start"]
        assert cold["total_ms"] == pytest.approx(
            sum(v for k, v in cold.items() if k.endswith("_ms") and k != "total_ms")
        )
        assert 10e6 < cold["peak_rss_bytes"] < 1e9
        energy = run["energy"]
        assert (energy["method"], energy["idle_W"], energy["gross_J"], energy["net_J"]) == ("ina219", 2, 10, 6)
        assert energy["value"] == pytest.approx(6 / 5) and energy["uncertainty"] == pytest.approx(0.01 * 6 / 5)
    assert out[0].startswith(document["bundle"]["label"]) and "5 captions of 2 photos" in "\n".join(out)
    rows = [line.split() for line in out if line.startswith("onnxruntime")]
    assert [row[3:5] for row in rows] == [["1", "2"], ["2", "2"]]
    assert "energy with 1 thread: 1.2 J a caption, give or take 0.01, by ina219 (the board; 2.0 W idle)" in out


def test_without_photos_the_golden_one_is_captioned(own_bundle: Path) -> None:
    write_golden(own_bundle)
    code, out, _ = edgecap_here("bench", "--bundle", own_bundle, "--threads", "1", *FEW)
    assert code == 0 and any("5 captions of 1 photo," in line for line in out)


def test_a_picture_is_drawn(tiny_bundle: Path, photo: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="it takes the extra bench")
    target = tmp_path / "bench.png"
    arguments = ("--bundle", tiny_bundle, "--threads", "1,2", "--plot", target, *FEW)
    code, _, _ = edgecap_here("bench", photo("red.jpg", "red"), *arguments)
    with Image.open(target) as image:
        assert code == 0 and image.format == "PNG" and min(image.size) > 200
        assert len(image.convert("RGB").getcolors(2**20) or []) > 20
    assert [path.name for path in tmp_path.glob("bench*")] == ["bench.png"]


def test_a_sensor_that_fails_leaves_the_times(
    tiny_bundle: Path, photo: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Vanishing(TwoWatts):
        def stop(self) -> Measured:
            raise EnergyError("ina219: cannot be read after 7 readings: gone")

    monkeypatch.setattr(command, "energy_sources", lambda: [EnergySource("ina219", "the board", 0.01, Vanishing)])
    target = tmp_path / "bench.json"
    code, out, _ = edgecap_here(
        "bench", photo("red.jpg", "red"), "--bundle", tiny_bundle, "--threads", 1, "--json", target, *FEW
    )
    (run,) = written(target)["runs"]
    assert (
        code == 0 and run["energy"] is None and run["energy_problem"] == "ina219: cannot be read after 7 readings: gone"
    )
    assert out[-1] == "energy with 1 thread: not known, ina219: cannot be read after 7 readings: gone"


def test_the_command_itself_finds_a_source(tiny_bundle: Path, photo: Callable[..., Path], tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    arguments = ("--bundle", tiny_bundle, "--threads", "1", "--captions", 200, "--json", target)
    code, _, err = edgecap("bench", photo("red.jpg", "red"), *arguments)
    (run,) = written(target)["runs"]
    assert code == 0 and (run["energy"] or run["energy_problem"]) and "captioning" in "\n".join(err)


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        (("nowhere.jpg",), 1, "nowhere.jpg: no such file"),
        (("broken.jpg",), 1, "broken.jpg: "),
        (("-",), 2, "photos are read again and again, so none can come from stdin"),
        (("red.jpg", "--threads", "0"), 2, "'0' is not a list of numbers from 1 to 256, such as 1,2,4"),
        (("red.jpg", "--threads", "1,x"), 2, "'1,x' is not a list of numbers"),
        (("red.jpg", "--engine", "tflite"), 2, "has no tflite graphs"),
        (("red.jpg", "--captions", "1"), 2, "--captions"),
        ((), 1, "has no golden photo: name photos to be captioned"),
        (("red.jpg", "--json", "nowhere/bench.json"), 2, "nowhere/bench.json: there is no such folder to write to"),
    ],
)
def test_what_stops_it_is_said_in_one_line(
    tiny_bundle: Path, photo: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...], status: int, problem: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(photo("red.jpg", "red").parent)
    Path("broken.jpg").write_bytes(b"no photo")
    code, out, err = edgecap_here(
        "bench", *arguments, "--bundle", tiny_bundle, *(() if "--captions" in arguments else FEW)
    )
    assert code == status and problem in err[-1]
    assert out == []


def test_without_matplotlib_the_extra_is_named(
    tiny_bundle: Path, photo: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    arguments = ("--bundle", tiny_bundle, "--plot", tmp_path / "bench.png", *FEW)
    code, _, err = edgecap_here("bench", photo("red.jpg", "red"), *arguments)
    assert code == 1 and err[-1] == "edgecap: matplotlib is not installed: run  pip install 'edgecap[bench]'"
