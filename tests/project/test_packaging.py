"""What the wheel will hold, against the tree: packages, their files, and the links that stand for them in place."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from itertools import chain
from pathlib import Path
from typing import Any

import click
import pytest
from packaging.requirements import Requirement
from places import ROOT

import edgecap

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS: dict[str, Any] = PROJECT["tool"]["setuptools"]
MAPPED: dict[str, str] = SETUPTOOLS["package-dir"]
DEFAULT_BUNDLE = ROOT / "models" / "plus" / "bundle"

needs_links = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an sdist has no links")


def folder_of(package: str) -> Path:
    return ROOT / MAPPED.get(package, package.replace(".", "/"))


def other_files(folder: Path) -> set[Path]:
    """Files beside a package's modules, but for reports that a script wrote; its subpackages have theirs."""
    files = {path for path in folder.iterdir() if path.is_file() and path.suffix not in (".py", ".pyc", ".md")}
    return {path for path in files if path.stem != "growth"}


def shipped(package: str) -> set[Path]:
    patterns = SETUPTOOLS["package-data"].get(package, [])
    return {path for pattern in patterns for path in folder_of(package).glob(pattern) if path.is_file()}


@needs_links
def test_every_package_of_the_tree_is_listed() -> None:
    """One that is missing from the list imports in an editable install and is absent from the wheel.

    The benchmarks are: they compare checkouts, on data that no wheel brings.
    """
    found = {"edgecap"}
    for folder, names, _ in os.walk(ROOT / "edgecap", followlinks=True):
        packages = [name for name in names if (Path(folder) / name / "__init__.py").is_file()]
        found |= {".".join((Path(folder) / name).relative_to(ROOT).parts) for name in packages}
        names[:] = packages
    found.remove("edgecap.benchmarks")
    assert found == set(SETUPTOOLS["packages"]) and len(SETUPTOOLS["packages"]) == len(found)


def test_every_module_is_in_a_listed_package() -> None:
    folders = {folder_of(package).resolve() for package in SETUPTOOLS["packages"]}
    modules = [path for top in ("edgecap", *MAPPED.values()) for path in (ROOT / top).rglob("*.py")]
    assert [path for path in modules if path.parent.resolve() not in folders] == []


@needs_links
def test_links_are_relative_and_stand_for_the_mapped_folders() -> None:
    links = {path.name: str(path.readlink()) for path in (ROOT / "edgecap").iterdir() if path.is_symlink()}
    assert links == {folder: f"../{folder}" for folder in (*MAPPED.values(), "benchmarks")}
    for package, folder in MAPPED.items():
        assert package == f"edgecap.{folder}"
        assert (ROOT / "edgecap" / folder).resolve(strict=True) == ROOT / folder


def test_files_beside_the_modules_are_shipped() -> None:
    for package in set(SETUPTOOLS["packages"]) - {"edgecap.models"}:
        assert other_files(folder_of(package)) == shipped(package), package
    assert ROOT / "export" / "astronaut.png" in shipped("edgecap.export")


def test_the_default_bundle_is_shipped_and_nothing_else_of_the_models() -> None:
    if not DEFAULT_BUNDLE.is_dir():
        pytest.skip("there is no trained bundle yet")
    files = {path for path in DEFAULT_BUNDLE.rglob("*") if path.is_file()}
    assert shipped("edgecap.models") == files
    assert sum(path.stat().st_size for path in files) <= 13e6


def test_the_runtime_needs_four_libraries() -> None:
    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}

    extras = PROJECT["project"]["optional-dependencies"]
    assert names(PROJECT["project"]["dependencies"]) == {"numpy", "pillow", "click"}
    assert names(extras["onnx"]) == {"onnxruntime"}
    assert {"onnx", "tflite", "export", "train", "dev"} <= extras.keys()


def test_every_requirement_has_a_lower_and_an_upper_bound() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    listed = [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"], *chain(*extras.values())]
    requirements = [Requirement(text) for text in listed]
    assert len(requirements) > 40
    for requirement in requirements:
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators in ({">=", "<"}, {"=="}) or requirement.name == "edgecap", str(requirement)


def test_the_lock_holds_what_the_extra_dev_asks_for() -> None:
    """All of it but torch, in versions that are allowed, with hashes and nothing that belongs to one machine."""
    lock = (ROOT / "requirements-dev.lock").read_text()
    locked = dict(re.findall(r"^([a-z][a-z0-9.-]*)==(\S+) \\$", lock, re.MULTILINE))
    assert len(re.findall(r"^[^#\n]*==", lock, re.MULTILINE)) == len(locked)
    assert len(re.findall(r"\\\n    --hash=sha256:[0-9a-f]{64}", lock)) >= len(locked) and "://" not in lock
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [Requirement(text) for text in (*PROJECT["project"]["dependencies"], *extras["dev"])]
    (own,) = (requirement for requirement in asked if requirement.name == "edgecap")
    asked += [Requirement(text) for extra in own.extras for text in extras[extra]]
    missing = [
        str(requirement)
        for requirement in asked
        if requirement.name not in ("edgecap", "torch")
        and not requirement.specifier.contains(locked.get(requirement.name.lower(), "0"))
    ]
    assert missing == [] and "torch" not in locked


def test_the_command_and_the_version_are_where_the_project_says() -> None:
    assert SETUPTOOLS["dynamic"]["version"] == {"attr": "edgecap.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", edgecap.__version__)
    entry = EntryPoint("edgecap", PROJECT["project"]["scripts"]["edgecap"], "console_scripts")
    assert isinstance(entry.load(), click.Group)


def test_the_package_itself_imports_the_standard_library_only() -> None:
    """``edgecap/__init__.py`` and ``errors`` run with every import of the runtime."""
    code = "import sys; before = set(sys.modules); import edgecap.errors; print(*(set(sys.modules) - before))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    assert "edgecap" in loaded and loaded - {"edgecap"} <= sys.stdlib_module_names


def test_a_clone_without_links_says_so_in_a_line(tmp_path: Path) -> None:
    """As git makes one on Windows: each link is a file with the path that it should lead to."""
    (tmp_path / "edgecap").mkdir()
    (tmp_path / "edgecap" / "__init__.py").write_bytes((ROOT / "edgecap" / "__init__.py").read_bytes())
    (tmp_path / "edgecap" / "runtime").write_text("../runtime")
    run = subprocess.run([sys.executable, "-c", "import edgecap.runtime"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1 and run.stderr.splitlines()[-1].startswith(
        "ImportError: edgecap/runtime is a file where git should have made a link: clone again with  git clone -c "
    )
