"""Short versions of the campaigns ``tests/campaigns/fuzz.py`` and ``graphs.py``, and everything that it ever found."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from campaigns import document_mutations, graph_mutations, photo_mutations
from campaigns.children import Finding, try_all
from campaigns.fuzz import documents_and_bundle, fuzz_documents, fuzz_photos, read_bundle, read_photo, write_document
from campaigns.graphs import ENDED, fuzz_graphs
from places import TESTS
from tiny_bundle import Graphs, onnx_graphs

from edgecap.runtime import load
from edgecap.runtime.bundle.tasks import TASKS

REGRESSIONS = sorted((TESTS / "regressions").iterdir())

pytestmark = pytest.mark.filterwarnings("ignore")


def test_damaged_photos_are_read_or_refused() -> None:
    assert list(fuzz_photos(2000, seed=0)) == []


@pytest.mark.parametrize("task", TASKS)
def test_damaged_documents_are_read_or_refused(task: str) -> None:
    assert list(fuzz_documents(300, 0, task)) == []


def test_damaged_onnx_graphs_are_run_or_refused() -> None:
    assert list(fuzz_graphs("onnx", onnx_graphs()["fp32"], 150, seed=0)) == []


def test_damaged_tflite_graphs_are_run_or_refused(tflite_graphs: Graphs) -> None:
    """An engine that one of them ends is no finding: nothing of that is promised."""
    found = fuzz_graphs("tflite", tflite_graphs["fp32"], 150, seed=0)
    assert [problem for problem in found if not problem.problem.startswith(ENDED)] == []


def test_what_was_found_once_is_answered() -> None:
    """Photos by their names' endings; else documents, named ``what.vocab.json``."""
    with documents_and_bundle() as (_, path), load(path, threads=1, engine="onnx") as captioner:

        def attempt(number: int) -> str | None:
            file = REGRESSIONS[number]
            if file.suffix != ".json":
                return read_photo(captioner, file.read_bytes())
            bundle = Path(shutil.copytree(path, path.parent / file.name))
            write_document(bundle, ".".join(file.name.split(".")[-2:]), file.read_bytes())
            return read_bundle(bundle, photo_mutations.seeds()[0])

        found = list(try_all(attempt, len(REGRESSIONS)))
    assert [(REGRESSIONS[finding.number].name, finding.problem) for finding in found] == []


def test_regressions_are_small() -> None:
    assert all(file.stat().st_size < 8192 for file in REGRESSIONS)


def test_the_same_number_is_the_same_damage() -> None:
    photos = photo_mutations.seeds()
    some = [photo_mutations.mutated(photos, 1, number) for number in range(50)]
    assert some == [photo_mutations.mutated(photos, 1, number) for number in range(50)] and len(set(some)) > 40
    graphs = onnx_graphs()["fp32"]
    damaged = [graph_mutations.mutated(graphs, 1, number) for number in range(50)]
    assert damaged == [graph_mutations.mutated(graphs, 1, number) for number in range(50)] and len(set(damaged)) > 40
    documents = {"generation.json": {"beam": 3, "suppressed_tokens": ["a"]}}
    other = [document_mutations.mutated(documents, 1, number) for number in range(50)]
    assert other == [document_mutations.mutated(documents, 1, number) for number in range(50)]
    assert len(set(other)) > 25


def test_a_child_that_crashes_hangs_or_eats_memory_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The campaign would notice."""
    monkeypatch.setattr("campaigns.children.SECONDS", 1)

    def attempt(number: int) -> str | None:
        if number == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        if number == 2:
            start = time.process_time()
            while time.process_time() < start + 60:
                pass
        if number == 3:
            try:
                bytearray(2**31)
            except MemoryError:
                return "not\nenough"
        if number == 5:
            os._exit(7)
        return None

    assert list(try_all(attempt, 7)) == [
        Finding(1, "ended by SIGSEGV"),
        Finding(2, "hangs: more than 1 s of processor time"),
        Finding(3, "not enough"),
        Finding(5, "an error that ended the child"),
    ]
