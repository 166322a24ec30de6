"""The sdist and the wheel, built of what is committed: what is in them, and that one makes the other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ROOT
from test_packaging import SETUPTOOLS, folder_of, shipped

import edgecap

NAME = f"edgecap-{edgecap.__version__}"
# What a clone has and an sdist has not: links to the folders beside the package, files of git, and checkpoints.
LINKS = {path.relative_to(ROOT).as_posix() for path in (ROOT / "edgecap").iterdir() if path.is_symlink()}
ONLY_IN_A_CLONE = {".gitignore", ".gitattributes", *LINKS}


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    """The files of this clone, by git."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return set(listed.strip("\0").split("\0"))


@pytest.fixture(scope="module")
def built(tracked: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist, made of the tracked files alone, and a wheel, made of the unpacked sdist."""
    if find_spec("build") is None:
        pytest.skip("build is not installed")
    clone, made = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("made")
    for name in tracked:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, clone / name, follow_symlinks=False)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", made, clone]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(command, cwd=made, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return made


def test_the_sdist_is_the_clone_without_checkpoints(built: Path, tracked: set[str]) -> None:
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        files = {member.name.removeprefix(f"{NAME}/") for member in archive if not member.isdir()}
    files = {name for name in files if not name.startswith("edgecap.egg-info/")} - {"PKG-INFO", "setup.cfg"}
    wanted = {name for name in tracked - ONLY_IN_A_CLONE if not name.endswith(".safetensors")}
    assert files == wanted
    assert (built / f"{NAME}.tar.gz").stat().st_size < 26e6


def test_the_wheel_is_the_packages_and_the_default_bundle(built: Path) -> None:
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as archive:
        files = {name for name in archive.namelist() if not name.startswith(f"{NAME}.dist-info/")}
        licence = archive.read(f"{NAME}.dist-info/licenses/LICENSE")
    wanted = set()
    for package in SETUPTOOLS["packages"]:
        folder = folder_of(package)
        for path in {*folder.glob("*.py"), *shipped(package)}:
            wanted.add(f"{package.replace('.', '/')}/{path.relative_to(folder).as_posix()}")
    assert files == wanted
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert (built / f"{NAME}-py3-none-any.whl").stat().st_size < 12e6
