"""Damaged graphs by the thousand: each is loaded and captions a photo, or is refused with a typed error.

``python -m tests.campaigns.graphs --count 20000 --seed 1`` from the project's root, with the graphs of each engine that
is installed (those for LiteRT are made with TensorFlow, or lie in EDGECAP_TINY_TFLITE). An engine that a graph ends is
told and counted apart, as SECURITY.md promises nothing of it; any other finding is an error of edgecap's own.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
from tiny_bundle import CONFIDENCE, onnx_graphs, write_tiny_bundle
from tiny_tflite import made_tflite_graphs, make_tflite_graphs

from campaigns import graph_mutations, photo_mutations
from campaigns.children import try_all
from campaigns.fuzz import Problem, write_document, wrong_error
from edgecap.errors import EdgecapError
from edgecap.runtime import load
from edgecap.runtime.bundle.tasks import TASKS

Pair = tuple[bytes, bytes]  # encoder and decoder step
ENDED = ("ended by ", "hangs: ")  # how findings begin that are the engine's


def fuzz_graphs(runtime: str, pair: Pair, count: int, seed: int) -> Iterator[Problem]:
    """Try ``count`` damaged graphs in the engine of ``runtime``."""
    photo = photo_mutations.seeds()[0]
    names = [f"{role}.fp32.{runtime}" for role in TASKS["caption"].graphs]
    with tempfile.TemporaryDirectory() as folder:
        graphs = {"fp32": pair}
        path = Path(folder) / "bundle"
        both = {"onnx": graphs, "tflite": None} if runtime == "onnx" else {"onnx": {}, "tflite": graphs}
        write_tiny_bundle(path, confidence=CONFIDENCE, **both)  # type: ignore[arg-type]

        def put(number: int) -> bytes:
            index, content = graph_mutations.mutated(pair, seed, number)
            for name, whole in zip(names, pair, strict=True):
                write_document(path, name, content if name == names[index] else whole)
            return content

        def attempt(number: int) -> str | None:
            put(number)
            return caption_by(path, runtime, photo)

        for finding in try_all(attempt, count):
            content = put(finding.number)
            yield Problem(f"{runtime}-{seed}-{finding.number}.{runtime}", finding.problem, content)


def caption_by(path: Path, runtime: str, photo: bytes) -> str | None:
    """Load a bundle and caption a photo by it; what is wrong, in words."""
    try:
        with load(path, threads=1, engine=runtime) as captioner:
            caption = captioner.caption(photo, n_best=2)
    except Exception as error:
        return wrong_error(error, EdgecapError)
    numbers = [caption.log_prob, caption.confidence or 0.0, *(found.log_prob for found in caption.n_best)]
    if not all(map(math.isfinite, numbers)) or caption.log_prob > 0.1:
        return f"gives {json.dumps(numbers)}"
    return None


@click.command()
@click.option("--count", type=int, default=20_000, show_default=True, help="Graphs of each engine.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--save", type=click.Path(path_type=Path), default=Path("findings"), show_default=True)
@click.option("--runtime", type=click.Choice(["onnx", "tflite"]), help="Only this one's.")
def main(count: int, seed: int, save: Path, runtime: str | None) -> None:
    """Damage graphs and caption by them; exit status 1 when one ended in anything but a typed error."""
    found = False
    with tempfile.TemporaryDirectory() as folder:
        pairs = {"onnx": onnx_graphs()["fp32"]} if runtime != "tflite" else {}
        if runtime != "onnx":
            pairs["tflite"] = made_tflite_graphs(make_tflite_graphs(Path(folder)))["fp32"]
        for name, pair in pairs.items():
            start, own, ended = time.monotonic(), 0, 0
            for problem in fuzz_graphs(name, pair, count, seed):
                dead = problem.problem.startswith(ENDED)
                ended, own = ended + dead, own + (not dead)
                save.mkdir(parents=True, exist_ok=True)
                (save / problem.name).write_bytes(problem.content)
                click.echo(f"{save / problem.name}: {problem.problem}")
            found = found or own > 0
            seconds = time.monotonic() - start
            click.echo(f"{count} {name} graphs, seed {seed}: {own} findings, {ended} ended, in {seconds:.0f} s")
    sys.exit(found)


if __name__ == "__main__":
    main()
