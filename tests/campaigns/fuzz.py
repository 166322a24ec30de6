"""Damaged photos and bundle documents by the hundred thousand: each is read, or refused with a typed error.

``python -m tests.campaigns.fuzz --photos 200000 --documents 50000 --seed 1`` from the project's root. What crashes,
hangs for five seconds, takes a gigabyte or raises another error is saved in the folder of ``--save``, to be put into
``tests/regressions/`` once it is understood. Number and seed of an input make it again.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from conftest import encoded
from edited_bundle import add_file
from golden_bundle import write_golden
from tiny_bundle import CONFIDENCE, write_tiny_bundle
from tiny_labels import write_label_bundle, write_label_golden

from campaigns import document_mutations, photo_mutations
from campaigns.children import Attempt, try_all
from edgecap.errors import EdgecapError, ImageError
from edgecap.runtime import Captioner, Labeller, load, load_labeller
from edgecap.runtime.bundle.description import describe
from edgecap.runtime.bundle.documents import read_golden
from edgecap.runtime.bundle.files import MANIFEST
from edgecap.runtime.bundle.manifest import DIGEST_KEY, digest, written
from edgecap.runtime.bundle.tasks import CAPTION, LABEL

LONGEST = 1000  # characters of a message


@dataclass(frozen=True)
class Problem:
    """An input that did what none may do, and its content."""

    name: str
    problem: str
    content: bytes


def wrong_error(error: Exception, allowed: type[Exception]) -> str | None:
    """What is wrong with an error that an input was refused with; ``None`` when it is as it should be."""
    message = str(error)
    if not isinstance(error, allowed):
        return f"{type(error).__name__}: {message}"
    if "not enough memory" in message:
        return f"takes more memory than there is: {message}"
    if "\n" in message or len(message) > LONGEST:
        return f"is not refused in one line: {message!r}"
    return None


def read_photo(captioner: Captioner, content: bytes) -> str | None:
    """Have a captioner read a photo; what is wrong, in words."""
    try:
        tensor = captioner.prepare(content).tensor
    except Exception as error:
        return wrong_error(error, ImageError)
    size = captioner.bundle.preprocess.size
    if tensor.shape != (1, 3, size, size) or tensor.dtype != np.float32 or not np.isfinite(tensor).all():
        return f"gives {tensor.dtype} {tensor.shape}, or values that are not finite"
    return None


def read_bundle(path: Path, photo: bytes, task: str = CAPTION) -> str | None:
    """Open, describe and load a bundle, and caption or label a photo by it; what is wrong, in words."""
    try:
        with load_labeller(path, **FUZZED) if task == LABEL else load(path, **FUZZED) as model:
            read_golden(model.bundle)
            json.dumps(describe(model.bundle), allow_nan=False)
            model.label(photo, threshold=0) if isinstance(model, Labeller) else model.caption(photo)
    except Exception as error:
        return wrong_error(error, EdgecapError)
    return None


def write_document(bundle: Path, name: str, content: bytes) -> None:
    """Replace a document of a bundle, as its maker could; a manifest is taken as it is."""
    (bundle / name).write_bytes(content)
    if name == MANIFEST:
        return
    document = json.loads((bundle / MANIFEST).read_bytes())
    for entry in document["files"]:
        if entry["path"] == name:
            entry.update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    lines = sorted(f"{entry['path']} {entry['sha256']}\n" for entry in document["files"])
    document["bundle_id"] = hashlib.sha256("".join(lines).encode()).hexdigest()
    document[DIGEST_KEY] = digest(document)
    (bundle / MANIFEST).write_bytes(written(document))


@contextmanager
def documents_and_bundle(task: str = CAPTION) -> Iterator[tuple[dict[str, Any], Path]]:
    """A bundle to be damaged, which has every document, and these."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle"
        if task == LABEL:
            write_label_golden(write_label_bundle(path), encoded("red", file_format="PNG"))
        else:
            write_golden(write_tiny_bundle(path, confidence=CONFIDENCE))
        add_file(path, "graphs.json", "graphs", json.dumps(GRAPHS).encode())
        add_file(path, "eval.json", "eval", json.dumps(EVALUATION).encode())
        names = sorted(str(file.relative_to(path)) for file in path.rglob("*.json"))
        yield {name: json.loads((path / name).read_bytes()) for name in names}, path


FUZZED: dict[str, Any] = {"threads": 1, "engine": "onnx"}
GRAPHS = {"encoder.fp32.onnx": {"ops": {"Conv": 3}, "parameters": 10, "macs": 100}}
EVALUATION = {
    "checkpoint_sha256": "0" * 64,
    "protocol": {
        "dataset": "colours", "split": "val", "tokenizer": "spaces", "photos": 4, "beam": 3, "max_length": 6,
        "length_penalty": 0.0,
    },
    "results": {"onnx-fp32": {"CIDEr-D": 0.5}},
}  # fmt: skip


def fuzz_photos(count: int, seed: int) -> Iterator[Problem]:
    """Try ``count`` damaged photos."""
    photos = photo_mutations.seeds()
    with documents_and_bundle() as (_, path), load(path, threads=1, engine="onnx") as captioner:

        def attempt(number: int) -> str | None:
            return read_photo(captioner, photo_mutations.mutated(photos, seed, number))

        for finding in try_all(attempt, count):
            content = photo_mutations.mutated(photos, seed, finding.number)
            yield Problem(f"photo-{seed}-{finding.number}", finding.problem, content)


def fuzz_documents(count: int, seed: int, task: str = CAPTION) -> Iterator[Problem]:
    """Try ``count`` damaged documents of a bundle for ``task``."""
    photo = photo_mutations.seeds()[0]
    with documents_and_bundle(task) as (documents, path):
        attempt = document_attempt(documents, path, photo, seed, task)
        for finding in try_all(attempt, count):
            name, content = document_mutations.mutated(documents, seed, finding.number)
            yield Problem(f"document-{seed}-{finding.number}-{Path(name).name}", finding.problem, content)


def document_attempt(documents: dict[str, Any], path: Path, photo: bytes, seed: int, task: str) -> Attempt:
    """Tries a damaged document in the bundle at ``path``."""
    whole = {name: (path / name).read_bytes() for name in documents}
    damaged = set(documents)  # a child that was ended has left any of them

    def attempt(number: int) -> str | None:
        name, content = document_mutations.mutated(documents, seed, number)
        for other in damaged:
            (path / other).write_bytes(whole[other])
        damaged.clear()
        damaged.update((name, MANIFEST))
        write_document(path, name, content)
        return read_bundle(path, photo, task)

    return attempt


@click.command()
@click.option("--photos", type=int, default=200_000, show_default=True)
@click.option("--documents", type=int, default=50_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--save", type=click.Path(path_type=Path), default=Path("findings"), show_default=True)
def main(photos: int, documents: int, seed: int, save: Path) -> None:
    """Damage photos and documents and read them; exit status 1 when one did what none may do."""
    warnings.simplefilter("ignore")
    found = False
    campaigns: tuple[tuple[str, int, Callable[[int, int], Iterator[Problem]]], ...] = (
        ("photos", photos, fuzz_photos),
        ("documents", documents, fuzz_documents),
        ("documents of labellers", documents // 2, partial(fuzz_documents, task=LABEL)),
    )
    for what, count, campaign in campaigns:
        start, findings = time.monotonic(), 0
        for problem in campaign(count, seed):
            findings, found = findings + 1, True
            save.mkdir(parents=True, exist_ok=True)
            (save / problem.name).write_bytes(problem.content)
            click.echo(f"{save / problem.name}: {problem.problem}")
        click.echo(f"{count} {what}, seed {seed}: {findings} findings in {time.monotonic() - start:.0f} s")
    sys.exit(found)


if __name__ == "__main__":
    main()
