"""A disk that fills up while a run is trained: one line, the checkpoint before it is whole, and the run goes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import edgecap_here

from edgecap.architectures.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("one_torch_thread")
OPTIONS = ("--preset", "plus", "--frozen-epochs", 1, "--epochs", 0, "--batch-size", 4, "--set", "checkpoint_every=3")
SETTINGS = ("--set", "views=1", "--set", "min_count=1", "--set", "precision=fp32", "--set", "backbone_weights=none")


@pytest.mark.parametrize(
    ("size", "step"),
    [("1200k", None), ("100m", 3)],
    ids=["caching features", "second checkpoint"],
)
def test_a_disk_that_is_full_is_said_in_one_line(
    data: Path, disk: Callable[[str], Path], size: str, step: int | None
) -> None:
    run = disk(f"size={size}") / "run"
    code, out, err = edgecap_here("train", "--data", data, "-o", run, *OPTIONS, *SETTINGS)
    assert (code, out) == (1, []) and "Traceback" not in "".join(err)
    assert re.fullmatch(
        rf"edgecap: {run}(/last\.safetensors)?: cannot be written: .*No space left on device.*", err[-1]
    )
    last = run / "last.safetensors"
    assert (load_checkpoint(last).training["step"] if last.exists() else None) == step
    assert not list(run.rglob("*.safetensors.partial")) and not list(run.rglob("*.npy.partial"))
    if step is not None:
        disk("remount,size=400m")
        code, out, err = edgecap_here("train", "--data", data, "-o", run, "--resume")
        assert code == 0 and f"resuming at step {step}" in "\n".join(err)


def test_a_folder_that_may_only_be_read_is_named(data: Path, disk: Callable[[str], Path]) -> None:
    folder = disk("size=1m")
    disk("remount,ro")
    code, out, err = edgecap_here("train", "--data", data, "-o", folder / "run", *OPTIONS, *SETTINGS)
    assert (code, out) == (1, []) and err[-1] == f"edgecap: {folder / 'run'}: Read-only file system"
