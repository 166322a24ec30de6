"""How many instructions of some kinds are in the code that qemu translated, which is what ran; one line of JSON.

python instructions.py LOG       a log of QEMU_LOG=in_asm
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

_AVX = re.compile(rb"%ymm")  # x86: registers of 256 bits
# SDOT and UDOT, by vector and by element, as words of machine code: qemu's disassembler has no name for them.
_WORD = re.compile(rb"^0x[0-9a-f]+:  ([0-9a-f]{8}) ")
_DOT_PRODUCTS = ((0x9FE0FC00, 0x0E809400), (0x9FC0F400, 0x0F80E000))  # mask, and what is left under it


def main() -> None:
    """Count, and print."""
    counts = {"AVX": 0, "dot product": 0}
    with Path(sys.argv[1]).open("rb") as log:
        for line in log:
            counts["AVX"] += _AVX.search(line) is not None
            counts["dot product"] += is_dot_product(line)
    print(json.dumps({"instructions": counts}))


def is_dot_product(line: bytes) -> bool:
    """Whether a line of the log is one of aarch64's."""
    word = _WORD.match(line)
    return word is not None and any(int(word[1], 16) & mask == rest for mask, rest in _DOT_PRODUCTS)


if __name__ == "__main__":
    main()
