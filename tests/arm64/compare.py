"""Captions of the same photos on this machine and on emulated boards, side by side; exit status 1 where they differ.

python compare.py --board NAME=PYTHON ... --bundle NAME-OR-FOLDER ... PHOTO ...
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgecap.runtime.bundle import Bundle, find_bundle
from edgecap.runtime.documents import graph_sets

BEAMS = (1, 5)

# SDOT and UDOT, by vector and by element, as words of machine code: qemu's disassembler has no name for them.
_INSTRUCTION = re.compile(rb"^0x[0-9a-f]+:  ([0-9a-f]{8}) ", re.MULTILINE)
_DOT_PRODUCTS = ((0x9FE0FC00, 0x0E809400), (0x9FC0F400, 0x0F80E000))  # mask, and what is left under it


@dataclass(frozen=True)
class Machine:
    """A Python that has edgecap installed."""

    name: str
    python: str
    emulated: bool = True


@dataclass(frozen=True)
class Graphs:
    """One of a bundle's graph sets."""

    bundle: str
    runtime: str
    precision: str

    def __str__(self) -> str:
        name = Bundle.open(find_bundle(self.bundle)).manifest.label
        return f"{name} {self.runtime} {self.precision}"


@dataclass(frozen=True)
class Said:
    """A photo's caption, and how likely the model found it."""

    caption: str
    log_prob: float


def main() -> None:
    """Compare, print, and exit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", action="append", required=True, metavar="NAME=PYTHON")
    parser.add_argument("--bundle", action="append", required=True)
    parser.add_argument("photos", nargs="+", type=Path)
    arguments = parser.parse_args()
    boards = [Machine(*board.split("=", 1)) for board in arguments.board]
    here = Machine(platform.machine(), sys.executable, emulated=False)
    sets = [Graphs(name, *graphs) for name in arguments.bundle for graphs in graph_sets(Bundle.open(find_bundle(name)))]
    verified = [verify(board, bundle) for board in boards for bundle in arguments.bundle]
    print(f"captions, with their log-probabilities on {', '.join(machine.name for machine in [here, *boards])}")
    differences = sum(compare([here, *boards], graphs, beam, arguments.photos) for graphs in sets for beam in BEAMS)
    if all(verified) and not differences:
        print(f"all captions are equal: {len(sets)} sets of graphs, beams {BEAMS}, {len(arguments.photos)} photos")
    else:
        sys.exit(f"{differences} captions differ, {verified.count(False)} bundles do not verify")


def verify(board: Machine, bundle: str) -> bool:
    """``edgecap verify``, whose lines are printed: whether all is well and nothing was skipped."""
    run = subprocess.run([board.python, "-P", "-m", "edgecap", "verify", bundle], stdout=subprocess.PIPE, text=True)
    for line in run.stdout.splitlines():
        print(f"{board.name}: {line}", flush=True)
    return run.returncode == 0 and "skipped" not in run.stdout


def compare(machines: list[Machine], graphs: Graphs, beam: int, photos: list[Path]) -> int:
    """Print what the machines say of the photos; returns the number of photos of which they say other things."""
    said, dots = zip(*(captions(machine, graphs, beam, photos) for machine in machines), strict=True)
    counts = ", ".join(
        f"{machine.name} {count}" for machine, count in zip(machines, dots, strict=True) if count is not None
    )
    print(f"{graphs}, beam {beam}" + (f"; dot products in the code that ran: {counts}" if counts else ""))
    for photo, line in zip(photos, zip(*said, strict=True), strict=True):
        print("\n".join(lines(photo, machines, line)), flush=True)
    return sum(len({one.caption for one in line}) > 1 for line in zip(*said, strict=True))


def lines(photo: Path, machines: list[Machine], said: tuple[Said, ...]) -> Iterator[str]:
    """One line of what all say of a photo, or one of each machine."""
    numbers = "  ".join(f"{one.log_prob:9.5f}" for one in said)
    if len({one.caption for one in said}) == 1:
        yield f"  same    {photo.name:<24} {numbers}  {said[0].caption}"
        return
    yield f"  DIFFER  {photo.name:<24} {numbers}"
    for machine, one in zip(machines, said, strict=True):
        yield f"          {machine.name:<24} {one.caption}"


def captions(machine: Machine, graphs: Graphs, beam: int, photos: list[Path]) -> tuple[list[Said], int | None]:
    """What a machine says of the photos; and of the first beam in INT8, the dot products in the code that it ran."""
    command = [machine.python, "-P", "-m", "edgecap", "caption", "--json", "--beam", str(beam), "--threads", "1"]
    command += ["--bundle", graphs.bundle, "--backend", graphs.runtime, "--precision", graphs.precision]
    counted = machine.emulated and graphs.precision == "int8" and beam == BEAMS[0]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "code"
        environment = {"QEMU_LOG": "in_asm", "QEMU_LOG_FILENAME": str(log)} if counted else {}
        run = subprocess.run(
            [*command, *map(str, photos)], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        if run.returncode != 0:
            sys.exit(f"{machine.name}: {' '.join(command)} ended with {run.returncode}")
        records = [json.loads(line) for line in run.stdout.splitlines()]
        dots = dot_products(log.read_bytes()) if counted else None
    return [Said(record["caption"], record["log_prob"]) for record in records], dots


def dot_products(code: bytes) -> int:
    """The dot-product instructions in qemu's log of the code that it translated, which is what ran."""
    words = Counter(_INSTRUCTION.findall(code))
    return sum(n for word, n in words.items() if any(int(word, 16) & mask == rest for mask, rest in _DOT_PRODUCTS))


if __name__ == "__main__":
    main()
