"""Every way for an export to fail leaves the bundle that was there as it was."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from exported import BOTH, ENVIRONMENT, GRAPHS, command, contents, quiet, sha256
from tiny_dataset import write_photos

from edgecap.cli import main
from edgecap.errors import BundleError, CheckpointError, ExportError, ImageError
from edgecap.export.calibration import from_folder
from edgecap.export.exporter import ExportRequest, export_bundle
from edgecap.export.parity import check_parity
from edgecap.export.recipe import ExportRecipe, Tolerances
from edgecap.model.captioner import CaptionModel
from edgecap.model.checkpoint import load_checkpoint
from edgecap.model.torch_backend import TorchBackend
from edgecap.runtime.backend import Encoded, FloatArray
from edgecap.runtime.bundle import MANIFEST, Bundle

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_a_killed_export_leaves_the_old_bundle_and_the_next_one_works(
    checkpoint: Path, photos: Path, bundle: Path, old: Path, tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    environment = {**ENVIRONMENT, "TMPDIR": str(tmp_path / "scratch")}  # what is killed cannot tidy up
    named_old = replace(Bundle.open(old).manifest, name="old")  # to be told from the new one
    (old / MANIFEST).write_text(json.dumps(named_old.to_json()))
    before = contents(old)
    for line in ("int8 graphs", "writing the bundle"):
        with subprocess.Popen(
            command(checkpoint, old, photos), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            assert any(said.startswith(line) for said in iter(process.stderr.readline, ""))
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert contents(old) == before and Bundle.open(old).manifest.name == "old"
        # What the killed one had begun lies beside it, hidden, until the next export.
        assert {path.name.partition("-")[0] for path in old.parent.iterdir()} == {"bundle", ".bundle.export"}
    run = subprocess.run(command(checkpoint, old, photos), env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert Bundle.open(old).manifest.name == "plus" and [path.name for path in old.parent.iterdir()] == ["bundle"]
    for name in GRAPHS:  # and the same recipe has given the same graphs
        assert sha256(old / name) == sha256(bundle / name)


@pytest.mark.parametrize(
    ("tolerances", "graph", "problem"),
    [
        (Tolerances(fp32_max_difference=0), "encoder.fp32", r"features is off by \d.*, 0 is allowed"),
        (Tolerances(encoder_int8_min_snr=90), "encoder.int8", r"features at \d+\.\d dB, 90 are needed"),
        (Tolerances(step_int8_min_snr=200), "decoder_step.int8", r"log_probs at \d+\.\d dB, 200 are needed"),
    ],
)
def test_a_graph_beyond_its_tolerance_fails_the_export(
    checkpoint: Path, photos: Path, old: Path, graphs_at_hand: None, tolerances: Tolerances, graph: str, problem: str
) -> None:
    before = contents(old)
    recipe = replace(BOTH, tolerances=tolerances)
    request = ExportRequest(checkpoint, old, recipe, calibration=from_folder(photos, recipe))
    with pytest.raises(ExportError, match=rf"export failed at parity of {graph}: {problem}"):
        export_bundle(request, quiet)
    assert contents(old) == before and [path.name for path in old.parent.iterdir()] == ["bundle"]


class Altered(TorchBackend):
    """A back end with one output of the encoder replaced."""

    def __init__(self, model: CaptionModel, name: str, value: float) -> None:
        super().__init__(model)
        self.name_of_output, self.value = name, value

    def encode(self, images: FloatArray) -> Encoded:
        encoded = super().encode(images)
        changed = np.full_like(vars(encoded)[self.name_of_output], self.value)
        return replace(encoded, **{self.name_of_output: changed})


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_an_output_that_is_dead_or_no_number_has_no_parity(checkpoint: Path, precision: str, value: float) -> None:
    model = load_checkpoint(checkpoint).model()
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)
    torch_backend, broken = TorchBackend(model), Altered(model, "keys", value)
    assert len(check_parity(torch_backend, torch_backend, precision, images, Tolerances())) == 8
    with pytest.raises(ExportError, match=rf"parity of encoder\.{precision}: keys "):
        check_parity(torch_backend, broken, precision, images, Tolerances())
    if value == 0:  # nor when it is the reference that is dead
        with pytest.raises(ExportError, match=rf"parity of encoder\.{precision}: keys "):
            check_parity(broken, torch_backend, precision, images, Tolerances())


def test_an_unreadable_calibration_photo_is_named(
    checkpoint: Path, photos: Path, old: Path, tmp_path: Path, graphs_at_hand: None
) -> None:
    before = contents(old)
    broken = Path(shutil.copytree(photos, tmp_path / "broken"))
    (broken / "011.jpg").write_bytes((photos / "011.jpg").read_bytes()[:300])
    request = ExportRequest(checkpoint, old, BOTH, calibration=from_folder(broken, BOTH))
    with pytest.raises(ImageError, match=r"011\.jpg: is truncated"):
        export_bundle(request, quiet)
    assert contents(old) == before and [path.name for path in old.parent.iterdir()] == ["bundle"]


def test_int8_without_photos_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"calibration of encoder\.int8: no photos were given"):
        export_bundle(ExportRequest(checkpoint, tmp_path / "bundle", BOTH), quiet)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_checkpoint_or_target_is_named_and_nothing_changes(checkpoint: Path, tmp_path: Path) -> None:
    fp32 = ExportRecipe()

    def refused(error: type[Exception], problem: str, target: Path, **changes: Any) -> None:
        before = contents(tmp_path)
        with pytest.raises(error, match=problem):
            export_bundle(replace(ExportRequest(checkpoint, target, fp32), **changes), quiet)
        assert contents(tmp_path) == before

    refused(CheckpointError, "best.safetensors: is of preset 'plus', not 'base'", tmp_path / "new", preset="base")
    refused(CheckpointError, "none.safetensors: no such", tmp_path / "new", checkpoint=tmp_path / "none.safetensors")
    (tmp_path / "file").write_text("a letter")
    refused(BundleError, "file: is a file: name a directory for the bundle", tmp_path / "file")
    refused(BundleError, "bundle: cannot be written: ", tmp_path / "file" / "bundle")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    refused(BundleError, "letters: holds other files and is no bundle", tmp_path / "letters")
    assert not (tmp_path / "new").exists()


def test_errors_of_the_command_are_one_line(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    def invoke(*arguments: object) -> tuple[int, str, list[str]]:
        result = CliRunner().invoke(main, ["export", str(checkpoint), *map(str, arguments)])
        return result.exit_code, result.stdout, result.stderr.splitlines()

    few, out = write_photos(tmp_path / "few", 2), tmp_path / "out"
    for arguments, problem in (
        (("--int8", "--calibration", few), "few: 2 photos to calibrate on; at least 16 are needed"),
        (("--preset", "base"), f"{checkpoint}: is of preset 'plus', not 'base'"),
        (("--data", tmp_path / "nowhere"), f"{tmp_path / 'nowhere'}: no such captions file or dataset folder"),
    ):
        code, stdout, (line,) = invoke("-o", out, *arguments)
        assert (code, stdout) == (1, "") and line.startswith(f"edgecap: {problem}")
    assert invoke("--calibration", photos)[0] == 2  # no --output
    code, stdout, lines = invoke("-o", out, "--int8")
    assert (code, stdout) == (2, "") and "--int8 needs photos to calibrate on" in lines[-1]
    assert not out.exists()


def test_an_empty_directory_and_a_link_to_one_can_be_targets(
    checkpoint: Path, tmp_path: Path, graphs_at_hand: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for _ in range(2):  # onto nothing, then onto a bundle
        export_bundle(ExportRequest(checkpoint, tmp_path / "link", ExportRecipe()), quiet)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / MANIFEST).is_file()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export_bundle(ExportRequest(checkpoint, Path(), ExportRecipe()), quiet)
    assert Bundle.open(tmp_path / "here").manifest.preset == "plus"
