"""Examples of README and docs: whoever follows a page from its top has every bundle and checkpoint that it names."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

from edgecap.cli import SUBCOMMANDS, main
from edgecap.runtime.bundle.bundle import find_bundle

pytestmark = pytest.mark.skipif(not (ROOT / "models" / "tiny").is_dir(), reason="the trained models are not here")


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples(page: Path) -> Iterator[list[str]]:
    """The words of every ``edgecap`` command of a page's shell blocks, in order, from after that word on."""
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.splitlines():
            for command in re.split(r"&&|\|", re.sub(r"\s+#.*", "", line)):
                words = shlex.split(command)
                if words[:1] == ["edgecap"]:
                    yield words[1:]


def value(words: list[str], *options: str) -> str | None:
    """What follows one of these options."""
    return next((after for word, after in itertools.pairwise(words) if word in options), None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_use_what_was_made_before(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    made: set[str] = (
        {"runs/mine/best.safetensors", "mine"} if page.name == "export.md" else set()
    )  # of docs/training.md
    for words in examples(page):
        command, *rest = words
        assert command in SUBCOMMANDS, words
        first = next((word for word in rest if not word.startswith("-")), None)
        bundle = value(rest, "--bundle") or (first if command in ("verify", "inspect") else None)
        if bundle is not None:
            assert bundle in made or find_bundle(bundle).is_dir(), words
        if command == "export":
            assert first is not None and (first in made or (ROOT / first).is_file()), words
        if (target := value(rest, "-o", "--output")) is not None:
            made |= {target, f"{target}/best.safetensors"}


def test_options_of_examples_are_there() -> None:
    assert sum(1 for page in PAGES for _ in examples(page)) > 20
    for command, *rest in (words for page in PAGES for words in examples(page)):
        context = main.make_context("edgecap", [command], resilient_parsing=True)
        found = main.get_command(context, command)
        assert found is not None
        known = {name for parameter in found.params for name in parameter.opts} | {"--help"}
        assert {word for word in rest if re.match(r"--?[a-z]", word)} <= known, (command, rest)


def test_links_lead_to_files_and_headings() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            name, _, heading = target.partition("#")
            if name.startswith("http"):
                continue
            file = (page.parent / name).resolve() if name else page
            assert file.exists(), (page.name, target)
            if heading:
                titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
                assert heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, target


def test_the_readme_is_a_page_to_begin_with() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
