"""Which module imports which: no circle, and arrows that point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from places import ROOT

FOLDERS = {"edgecap": "edgecap", "export": "edgecap.export", "runtime": "edgecap.runtime"}
FOLDERS["benchmarks"] = "edgecap.benchmarks"


@cache
def modules() -> dict[str, Path]:
    """Every module of the project by name."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            if folder == "edgecap" and path.relative_to(ROOT / folder).parts[0] in (*FOLDERS, "models"):
                continue  # a link to one of the others
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join((package, *(part for part in parts if part != "__init__")))
            found[name] = path
    return found


def imported(path: Path, *, lazily: bool) -> Iterator[str]:
    """Modules of the project that a module imports; ``lazily`` also within functions. Not for types alone."""
    tree = ast.parse(path.read_text())
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not lazily:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in modules() or node.module in modules():
                    yield whole if whole in modules() else node.module
        pending.extend(ast.iter_child_nodes(node))


def graph(*, lazily: bool) -> dict[str, set[str]]:
    return {name: set(imported(path, lazily=lazily)) - {name} for name, path in modules().items()}


def test_every_module_is_seen() -> None:
    assert len(modules()) > 200 and "edgecap.runtime.loading" in graph(lazily=False)["edgecap.cli.options"]


@pytest.mark.parametrize("lazily", [False, True])
def test_no_imports_go_in_a_circle(lazily: bool) -> None:
    try:
        TopologicalSorter(graph(lazily=lazily)).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


# By the package that imports: what of the project it may import beside itself.
ALLOWED = {
    "edgecap.runtime": ("edgecap.errors",),
    "edgecap.data": ("edgecap.errors", "edgecap.runtime"),
    "edgecap.metrics": ("edgecap.errors", "edgecap.runtime", "edgecap.data"),
}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_a_package_imports_only_what_it_stands_on(package: str) -> None:
    for name, others in graph(lazily=True).items():
        if name == package or name.startswith(f"{package}."):
            known = (package, *ALLOWED[package])
            assert {other for other in others - {"edgecap"} if not other.startswith(known)} == set(), name


def test_nobody_imports_the_command_line_nor_the_benchmarks() -> None:
    for name, others in graph(lazily=True).items():
        for top in ("edgecap.cli", "edgecap.benchmarks"):
            if not name.startswith((top, "edgecap.__main__")):
                assert not any(other == top or other.startswith(f"{top}.") for other in others), (name, top)


def test_export_and_training_do_not_know_each_other() -> None:
    for name, others in graph(lazily=True).items():
        for one, other in (("edgecap.export", "edgecap.training"), ("edgecap.architectures", "edgecap.export")):
            if name.startswith(f"{one}."):
                assert not any(found.startswith(f"{other}.") for found in others), (name, other)
