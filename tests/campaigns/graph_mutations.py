"""Graphs damaged at random, each made again by seed and number."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

_INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(graphs: Sequence[bytes], seed: int, number: int) -> tuple[int, bytes]:
    """One of the graphs, by its index, and its content after one to four changes."""
    choice = random.Random(f"graphs {seed} {number}")
    index = choice.randrange(len(graphs))
    content = bytearray(graphs[index])
    for _ in range(choice.choice((1, 1, 1, 2, 3, 4))):
        _change(content, choice)
    return index, bytes(content)


def _change(content: bytearray, choice: random.Random) -> None:
    where = choice.randrange(len(content))
    kind = choice.randrange(6)
    if kind == 0:
        content[where] ^= 1 << choice.randrange(8)
    elif kind == 1:
        content[where] = choice.randrange(256)
    elif kind == 2:  # a whole number, where FlatBuffers have them
        where -= where % 4
        content[where : where + 4] = struct.pack("<I", choice.choice(_INTERESTING))[: len(content) - where]
    elif kind == 3:
        del content[where : where + choice.randrange(1, 9)]
    elif kind == 4:
        content[where:where] = content[where : where + choice.randrange(1, 33)]
    elif len(content) > 1:
        other = choice.randrange(len(content))
        content[where], content[other] = content[other], content[where]
    if not content:
        content.append(0)
