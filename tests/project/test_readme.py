"""The README's examples: whoever follows them from the top has every bundle and checkpoint that they name."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator

import pytest
from places import ROOT

from edgecap.cli import SUBCOMMANDS, main
from edgecap.runtime.bundle.bundle import find_bundle

pytestmark = pytest.mark.skipif(not (ROOT / "models" / "tiny").is_dir(), reason="the trained models are not here")


def examples() -> Iterator[list[str]]:
    """The words of every ``edgecap`` command of the README's shell blocks, in order, from after that word on."""
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        for line in block.splitlines():
            for command in re.split(r"&&|\|", re.sub(r"\s+#.*", "", line)):
                words = shlex.split(command)
                if words[:1] == ["edgecap"]:
                    yield words[1:]


def value(words: list[str], *options: str) -> str | None:
    """What follows one of these options."""
    return next((after for word, after in itertools.pairwise(words) if word in options), None)


def test_examples_use_what_was_made_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    made: set[str] = set()
    seen = 0
    for words in examples():
        command, *rest = words
        assert command in SUBCOMMANDS, words
        first = next((word for word in rest if not word.startswith("-")), None)
        bundle = value(rest, "--bundle") or (first if command in ("verify", "inspect") else None)
        if bundle is not None:
            assert bundle in made or find_bundle(bundle).is_dir(), words
            seen += 1
        if command == "export":
            assert first is not None and (first in made or (ROOT / first).is_file()), words
        if (target := value(rest, "-o", "--output")) is not None:
            made |= {target, f"{target}/best.safetensors"}
    assert seen >= 5


def test_options_of_examples_are_there() -> None:
    for command, *rest in examples():
        context = main.make_context("edgecap", [command], resilient_parsing=True)
        found = main.get_command(context, command)
        assert found is not None
        known = {name for parameter in found.params for name in parameter.opts} | {"--help"}
        assert {word for word in rest if re.match(r"--?[a-z]", word)} <= known, (command, rest)
