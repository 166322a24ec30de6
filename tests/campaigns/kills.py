"""SIGKILL at random moments of exports and trainings: what is on the disk is always whole, the old or the new.

``python -m tests.campaigns.kills --rounds 100 --seed 1`` from the project's root. Each export replaces the bundle that
the one before has left; half of the kills come after it has begun to write. A training is killed and resumed until it
ends, and must end with the weights of one that nothing disturbed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import torch
from exported import contents, hurry, write_checkpoint
from tiny_dataset import write_tiny_dataset
from training_runs import assert_same_run

from edgecap.architectures.checkpoint import load_checkpoint
from edgecap.cli import main as edgecap
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.files import MANIFEST

WRITING = "writing the bundle"
GRAPHS = ("--onnx", "--fp32")
TRAINING = (
    *("--preset", "plus", "--frozen-epochs", "1", "--epochs", "1", "--batch-size", "4", "--set", "checkpoint_every=2"),
    *("--set", "views=1", "--set", "min_count=1", "--set", "precision=fp32", "--set", "backbone_weights=none"),
)


@dataclass(frozen=True)
class Ended:
    """A command that has ended: its exit code, or minus the signal, and its lines on stderr with their times, in s."""

    code: int
    lines: tuple[tuple[float, str], ...]
    seconds: float

    def after(self, line: str) -> float:
        """The seconds from a line to the end."""
        return self.seconds - next((when for when, said in self.lines if said.startswith(line)), self.seconds)


def run(arguments: list[str], *, kill_after: float | None = None, line: str | None = None) -> Ended:
    """``edgecap`` in a child of this process, which has imported everything; it is killed so many seconds in.

    Or so many after it says ``line``.
    """
    readable, writable = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _run_here(arguments, writable)
    os.close(writable)
    end = start + kill_after if kill_after is not None and line is None else None
    lines, text = list[tuple[float, str]](), ""
    os.set_blocking(readable, False)
    while True:
        try:
            part = os.read(readable, 65536).decode()
        except BlockingIOError:
            part = None
        if part == "":
            break
        *whole, text = (text + (part or "")).split("\n")
        lines += [(time.monotonic() - start, said) for said in whole]
        if line is not None and kill_after is not None and end is None and line in f"{whole} {text}":
            end = time.monotonic() + kill_after
        if end is not None and time.monotonic() >= end:
            os.kill(child, signal.SIGKILL)
            end = None
        time.sleep(0.0005)
    os.close(readable)
    _, status = os.waitpid(child, 0)
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return Ended(code, tuple(lines), time.monotonic() - start)


def _run_here(arguments: list[str], writable: int) -> None:
    """The child: it does not return."""
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(writable, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))  # of another kind now
        try:
            edgecap(arguments)
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:
            traceback.print_exc()
    finally:
        os._exit(code)


def kill_exports(checkpoint: Path, folder: Path, rounds: int, chance: random.Random) -> Counter[str]:
    """Kill exports to ``folder``/bundle. Raises ``AssertionError`` as soon as what is there is not whole."""
    target, counts = folder / "bundle", Counter[str]()

    def arguments(number: int) -> list[str]:
        return ["export", str(checkpoint), "-o", str(target), *GRAPHS, "--name", f"round-{number}"]

    undisturbed = run(arguments(0))
    assert undisturbed.code == 0, undisturbed
    writing = undisturbed.after(WRITING)
    for number in range(1, rounds + 1):
        before, old = contents(target), Bundle.open(target).manifest.name
        late = number % 2 == 0
        moment = chance.uniform(0, 1.5 * writing if late else undisturbed.seconds)
        ended = run(arguments(number), kill_after=moment, line=WRITING if late else None)
        assert ended.code in (0, -signal.SIGKILL), ended
        name = check_bundle(target)
        if name == old:
            assert contents(target) == before and ended.code != 0
        assert name in (old, f"round-{number}")
        counts["ended before it was killed" if ended.code == 0 else "old" if name == old else "new"] += 1
    assert run(arguments(rounds + 1)).code == 0
    assert [path.name for path in folder.iterdir()] == ["bundle"]  # what the killed ones left is gone
    return counts


def check_bundle(target: Path) -> str:
    """The name of a bundle, every file of which is what its manifest says, and which has no other."""
    bundle = Bundle.open(target)
    assert contents(target).keys() == {MANIFEST, *(entry.path for entry in bundle.manifest.files)}
    return bundle.manifest.name


def kill_trainings(data: Path, folder: Path, rounds: int, chance: random.Random) -> Counter[str]:
    """Kill trainings in ``folder``/run. Raises ``AssertionError`` when a checkpoint is not whole, or ends otherwise."""
    reference, target, counts = folder / "reference", folder / "run", Counter[str]()
    undisturbed = run(training(data, reference))
    assert undisturbed.code == 0, undisturbed
    for _ in range(rounds):
        before = step_of(target)
        ended = run(training(data, target), kill_after=chance.uniform(0, 1.2 * undisturbed.seconds))
        assert ended.code in (0, -signal.SIGKILL), ended
        after = step_of(target)
        assert after >= before
        if ended.code == 0:
            finish(target, reference)
            counts["ended as if undisturbed"] += 1
        else:
            counts["further" if after > before else "as far as before"] += 1
    if target.exists():
        assert run(training(data, target)).code == 0
        finish(target, reference)
    return counts


def training(data: Path, target: Path) -> list[str]:
    """The command that starts a run, or goes on with it."""
    going = ["--resume"] if (target / "last.safetensors").exists() else []
    return ["train", "--data", str(data), "-o", str(target), *TRAINING, *going]


def step_of(target: Path) -> int:
    """The step of a run's checkpoint, which with the best one is whole; 0 before there is one."""
    last, best = (target / name for name in ("last.safetensors", "best.safetensors"))
    if best.exists():
        assert load_checkpoint(best).metrics
    return int(load_checkpoint(last).training["step"]) if last.exists() else 0


def finish(target: Path, reference: Path) -> None:
    """Compare a run that has ended, and remove it."""
    assert_same_run(target, reference)
    shutil.rmtree(target)


def campaigns(
    checkpoint: Path | None, bundle: Path | None, folder: Path
) -> Iterator[tuple[str, Callable[..., Counter[str]], Path]]:
    """What can be killed, and what it is made of."""
    (folder / "train").mkdir()
    (folder / "export").mkdir()
    if checkpoint is None or bundle is None:
        checkpoint, bundle = write_checkpoint(folder), folder / "whole"
        made = run(["export", str(checkpoint), "-o", str(bundle), *GRAPHS])
        assert made.code == 0, made
    hurry(bundle, pytest.MonkeyPatch())
    yield "exports", kill_exports, checkpoint
    yield "trainings", kill_trainings, write_tiny_dataset(folder / "data", train=16, val=4)


@click.command()
@click.option("--rounds", type=int, default=100, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Exported; made by the campaign if not given.")
@click.option("--bundle", type=click.Path(path_type=Path), help="An export of it, whose graphs are copied; likewise.")
def main(rounds: int, seed: int, checkpoint: Path | None, bundle: Path | None) -> None:
    """Kill exports and trainings; exit status 1 when one left something that is not whole."""
    torch.set_num_threads(1)  # a fork has no other thread
    with tempfile.TemporaryDirectory() as folder:
        for what, campaign, source in campaigns(checkpoint, bundle, Path(folder)):
            start = time.monotonic()
            counts = campaign(source, Path(folder) / what[:-1].removesuffix("ing"), rounds, random.Random(seed))
            told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
            click.echo(f"{rounds} {what} killed, seed {seed}: {told}; all whole, in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
