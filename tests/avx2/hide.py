"""Copies of the engines in which CPUID is UD2, and a /proc/cpuinfo to go with them: python hide.py FOLDER."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ENGINES = ("onnxruntime", "ai_edge_litert")
CPUID, UD2 = b"\x0f\xa2", b"\x0f\x0b"
HIDDEN = re.compile(r"\b(avx512\w*|avx_vnni\w*|avx_ifma|avx_ne_convert|amx_\w+|vaes|vpclmulqdq|gfni)\b ?")


def main(folder: Path) -> None:
    """Make what is not there yet of the versions that are installed."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    (folder / "cpuinfo").write_text(HIDDEN.sub("", cpuinfo), encoding="utf-8")
    for name in ENGINES:
        spec = find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            continue
        source, target = Path(spec.submodule_search_locations[0]), folder / "site" / name
        mark = target / ".copied-from"
        version = f"{source} {source.stat().st_mtime}"
        if mark.exists() and mark.read_text(encoding="utf-8") == version:
            continue
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        for library in target.rglob("*.so*"):
            replaced = replace(library)
            if replaced:
                print(f"avx2: {replaced} CPUID instructions of {library.name}")
        mark.write_text(version, encoding="utf-8")


def replace(library: Path) -> int:
    """Put UD2 in the place of each CPUID instruction; returns how many there were."""
    code = output("objdump", "-d", "--no-show-raw-insn", library)
    addresses = [int(found, 16) for found in re.findall(r"^\s*([0-9a-f]+):\s+cpuid\s*$", code, re.MULTILINE)]
    segments = [
        tuple(int(number, 16) for number in re.findall(r"0x([0-9a-f]+)", line)[:4])  # offset, address, _, bytes there
        for line in output("readelf", "-lW", library).splitlines()
        if line.split()[:1] == ["LOAD"]
    ]
    content = bytearray(library.read_bytes())
    for address in addresses:
        place = next(address - start + offset for offset, start, _, size in segments if 0 <= address - start < size)
        if content[place : place + 2] != CPUID:
            sys.exit(f"avx2: {library} has no CPUID at {address:#x}")
        content[place : place + 2] = UD2
    library.write_bytes(content)
    return len(addresses)


def output(*command: str | Path) -> str:
    """What a command prints; nothing where it cannot read the file."""
    return subprocess.run([*map(str, command)], capture_output=True, text=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
