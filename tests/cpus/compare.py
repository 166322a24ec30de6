"""What CPUs made of the same photos, side by side, in Markdown.

Exit status 1 where more captions are not the first CPU's than `ALLOWED` says, or a bundle does not verify.

python compare.py FOLDER CPU ...       FOLDER has what tests/cpus/run recorded of each: CPU.jsonl and CPU.verify
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# The share of the captions of INT8 graphs at one beam that may be others on a CPU than on the first: additions of INT8
# numbers round some sums otherwise there, on which a close call between two words may hang (docs/cpus.md). Of a few
# photos it is none, and of fp32 graphs always.
ALLOWED = 0.1

# A bundle, one of its graph sets and a beam: ("plus@15996c888617", "onnx int8", 5).
Search = tuple[str, str, int]


@dataclass(frozen=True)
class Said:
    """A photo's caption, and how likely the model found it."""

    caption: str
    log_prob: float


@dataclass
class Record:
    """All that is known of a CPU."""

    name: str
    verified: list[str] = field(default_factory=list)  # the lines of `edgecap verify`
    tensors: dict[tuple[str, str], str] = field(default_factory=dict)  # digests by bundle and photo
    said: dict[tuple[Search, str], Said] = field(default_factory=dict)  # by photo
    instructions: dict[str, int] = field(default_factory=dict)  # in the code that ran; empty where nobody counted
    seconds: int | None = None  # of processor time; None: it did not get to the end

    @classmethod
    def read(cls, folder: Path, name: str) -> Record:
        """From its files; one that is not there says nothing."""
        record, verified, lines = cls(name), folder / f"{name}.verify", folder / f"{name}.jsonl"
        record.verified = verified.read_text().splitlines() if verified.is_file() else []
        for line in lines.read_text().splitlines() if lines.is_file() else []:
            entry = json.loads(line)
            if "tensor" in entry:
                record.tensors[entry["bundle"], entry["photo"]] = entry["tensor"]
            elif "caption" in entry:
                search = (entry["bundle"], entry["graphs"], entry["beam"])
                record.said[search, entry["photo"]] = Said(entry["caption"], entry["log_prob"])
            record.seconds = entry.get("seconds", record.seconds)
            record.instructions = entry.get("instructions", record.instructions)
        return record

    @property
    def sound(self) -> bool:
        """Whether it got to the end, and all its bundles verify with every graph set."""
        return self.seconds is not None and bool(self.verified) and all(line[:2] == "ok" for line in self.verified)


def main() -> None:
    """Compare, print, and exit."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    here, *others = [Record.read(Path(sys.argv[1]), name) for name in sys.argv[2:]]
    searches = dict.fromkeys(search for search, _ in here.said)
    for lines in (
        verified([here, *others]),
        machines([here, *others]),
        *(photos(search, here, others) for search in searches),
        summary(list(searches), here, others),
    ):
        print("\n".join(lines), end="\n\n")
    unsound = [record.name for record in (here, *others) if not record.sound]
    counts = {(search, other.name): differences(search, here, other) for search in searches for other in others}
    beyond = [f"{title(search)} on {cpu}" for (search, cpu), n in counts.items() if n > allowed(search, here)]
    told = f"cpus: {sum(counts.values())} of {len(here.said) * len(others)} captions differ from those of {here.name}"
    if not searches or unsound or beyond:
        sys.exit(f"{told}; too many of: {beyond}; without captions, or with bundles that do not verify: {unsound}")
    print(f"{told}, no more than {ALLOWED:.0%} of an INT8 graph set's on any CPU, and none of an fp32 one's")


def verified(records: Sequence[Record]) -> Iterator[str]:
    """What `edgecap verify` said on each."""
    for record in records:
        yield from (f"{record.name}: {line}" for line in record.verified)


def machines(records: Sequence[Record]) -> Iterator[str]:
    """What ran on each, and the processor time that it took."""
    kinds = list(dict.fromkeys(kind for record in records for kind in record.instructions))
    yield from header("CPU", [*(f"{kind} instructions" for kind in kinds), "photos as here", "processor seconds"])
    for record in records:
        counts = [str(record.instructions.get(kind, "")) for kind in kinds]
        same = sum(record.tensors.get(photo) == digest for photo, digest in records[0].tensors.items())
        yield row(record.name, [*counts, f"{same} of {len(records[0].tensors)}", str(record.seconds)])


def photos(search: Search, here: Record, others: Sequence[Record]) -> Iterator[str]:
    """Of each photo the log-probability of its caption on each CPU, and the caption, or those that differ."""
    yield from header(title(search), ["", *(record.name for record in (here, *others)), "caption"])
    for photo, _ in of(search, here):
        line = [record.said.get((search, photo)) for record in (here, *others)]
        numbers = [f"{said.log_prob:.4f}" if said else "-" for said in line]
        first, *rest = dict.fromkeys(said.caption if said else "-" for said in line)
        yield row(photo, ["DIFFER" if rest else "same", *numbers, first])
        for caption in rest:
            told = [caption == (said.caption if said else "-") for said in line]
            yield row("", ["", *("this" if one else "" for one in told), caption])


def summary(searches: Sequence[Search], here: Record, others: Sequence[Record]) -> Iterator[str]:
    """How many captions are not those of here, and how far the log-probabilities of those that are lie apart."""
    yield from header("captions other than here; largest difference of log-probabilities", [o.name for o in others])
    for search in searches:
        cells = []
        for other in others:
            pairs = [(said, other.said.get((search, photo))) for photo, said in of(search, here)]
            apart = [abs(said.log_prob - its.log_prob) for said, its in pairs if its and its.caption == said.caption]
            cells.append(f"{len(pairs) - len(apart)} of {len(pairs)}; {max(apart, default=0):.4f}")
        yield row(title(search), cells)


def of(search: Search, record: Record) -> list[tuple[str, Said]]:
    """What it said, by photo."""
    return [(photo, said) for (one, photo), said in record.said.items() if one == search]


def differences(search: Search, here: Record, other: Record) -> int:
    """The number of photos of which it says something else, or nothing."""
    said = [(said.caption, other.said.get((search, photo))) for photo, said in of(search, here)]
    return sum(its is None or its.caption != caption for caption, its in said)


def allowed(search: Search, here: Record) -> int:
    """How many of them there may be."""
    _, graphs, _ = search
    return int(ALLOWED * len(of(search, here))) if graphs.endswith("int8") else 0


def title(search: Search) -> str:
    """``plus, onnx int8, beam 5``."""
    bundle, graphs, beam = search
    return f"{bundle.partition('@')[0]}, {graphs}, beam {beam}"


def header(first: str, others: Sequence[str]) -> Iterator[str]:
    """The head of a table."""
    yield row(first, others)
    yield "|---" * (len(others) + 1) + "|"


def row(first: str, others: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join([first, *others])} |"


if __name__ == "__main__":
    main()
