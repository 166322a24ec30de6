"""What makes training fast on a CPU: memory that is used again, and the benchmark that tells how fast it is."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
from click.testing import CliRunner

from edgecap.benchmarks.training_speed import main

_FAULTS = """
import ctypes, resource
from edgecap.training.machine.memory import keep_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.memset.argtypes, libc.free.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], [ctypes.c_void_p]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(100_000_000)
    libc.memset(block, 1, 100_000_000)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults(), faults()
keep_freed_memory()
print(*before, faults(), faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_freed_memory_is_used_again() -> None:
    """Of 100 MB that are taken, filled and freed time and again, the pages are there from the second time on."""
    run = subprocess.run([sys.executable, "-c", _FAULTS], check=True, capture_output=True, text=True)
    *fresh, again = map(int, run.stdout.split())
    assert min(fresh) > 10_000 and again < 100


@pytest.mark.usefixtures("one_torch_thread")
def test_the_benchmark_has_a_row_for_each_way_to_train() -> None:
    arguments = [
        "--backbone",
        "ShuffleNetV2",
        "--precision",
        "fp32",
        "--precision",
        "bf16",
        "--layout",
        "channels_last",
    ]
    sizes = ["--layout", "contiguous", "--batch", "1", "--rounds", "1", "--give-memory-back"]
    found = CliRunner().invoke(main, [*arguments, *sizes])
    assert found.exit_code == 0, found.output
    rows = [line.split() for line in found.stdout.splitlines()[1:]]
    assert [row[1:3] for row in rows] == [
        [precision, layout] for precision in ("fp32", "bf16") for layout in ("channels_last", "contiguous")
    ]
    assert all(float(speed) > 0 for row in rows for speed in row[3:])
