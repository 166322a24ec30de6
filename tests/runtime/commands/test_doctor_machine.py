"""What ``edgecap doctor`` says of boards and servers, from recorded files of theirs."""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from patients import (
    BOARD,
    PI,
    PI4_FEATURES,
    PI5_FEATURES,
    SERVER,
    SOUND,
    arm,
    libraries,
    no_firmware,
    only,
    patient,
    statuses,
    write,
    x86,
)

from edgecap.doctor import machine, python, wheels
from edgecap.doctor.examination import CHECKS
from edgecap.doctor.patient import Patient, Platform, this_platform
from edgecap.doctor.report import document
from edgecap.runtime.machine.probes import cpu_quota


@pytest.mark.parametrize(
    ("platform", "cpuinfo", "status", "words"),
    [
        (BOARD, arm(PI4_FEATURES), "warning", "NEON (asimd), no dot product (asimddp): INT8 works, but slower"),
        (BOARD, arm(PI5_FEATURES), "ok", "NEON (asimd), fp16 (asimdhp), dot product (asimddp)"),
        (BOARD, arm(f"{PI5_FEATURES} i8mm"), "ok", "dot product (asimddp), i8mm"),
        (BOARD, x86("avx avx2"), "warning", "cannot tell: /proc/cpuinfo names no instructions of aarch64"),  # emulated
        (SERVER, x86("avx avx2 avx512_vnni amx_int8"), "ok", "AVX2, AVX-512 VNNI, AMX"),
        (SERVER, x86("avx avx2 avx_vnni"), "ok", "AVX2, AVX-VNNI"),
        (SERVER, x86("avx avx2"), "warning", "AVX2, no VNNI: INT8 works, but slower"),
        (SERVER, x86("ssse3"), "warning", "no AVX2, no VNNI"),
        (SERVER, "", "warning", "cannot tell: /proc/cpuinfo names no instructions of x86_64"),
        (replace(BOARD, architecture="riscv64"), "isa\t: rv64gc\n", "warning", "cannot tell: not known for riscv64"),
    ],
)
def test_instructions(tmp_path: Path, platform: Platform, cpuinfo: str, status: str, words: str) -> None:
    found = only(machine.cpu(patient(tmp_path, {"proc/cpuinfo": cpuinfo}, platform=platform)))
    assert found.status == status and words in found.found


@pytest.mark.parametrize(
    ("cpuinfo", "words"),
    [
        (x86("avx2 avx512f avx512_bf16"), "in bf16, by AVX-512 BF16"),
        (x86("avx512_bf16 amx_bf16 amx_int8"), "in bf16, by AVX-512 BF16 and AMX"),
        (arm(f"{PI5_FEATURES} i8mm bf16"), "in bf16, by Arm's bf16"),
        (x86("avx2 avx512f avx512_vnni"), "in fp32: the processor has no bf16 instructions"),
        ("", "in fp32: /proc/cpuinfo names no instructions"),
    ],
)
def test_the_precision_of_trainings(tmp_path: Path, cpuinfo: str, words: str) -> None:
    found = only(machine.training(patient(tmp_path, {"proc/cpuinfo": cpuinfo})))
    assert (found.status, found.found) == ("ok", words)


def test_the_machine_is_named(tmp_path: Path) -> None:
    assert PI[:-1] in only(machine.machine(patient(tmp_path, {"proc/device-tree/model": PI}))).found
    assert "Server CPU" in only(machine.machine(patient(tmp_path / "x", {"proc/cpuinfo": x86("")}))).found


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        # A container, version 2
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        # A service on a host, of which a slice above it is limited
        (
            {
                "proc/self/cgroup": "0::/system.slice/cam.service\n",
                "sys/fs/cgroup/system.slice/cam.service/cpu.max": "max 100000\n",
                "sys/fs/cgroup/system.slice/cpu.max": "150000 100000\n",
            },
            1.5,
        ),
        # Version 1: at its own place on a host; in a container, which is told a path of the host's
        (
            {
                "proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/docker/1\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n",
            },
            2.0,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/docker/abc\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "25000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            0.25,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/cpu.max": "7 0\n"}, None),
    ],
)
def test_quotas_of_control_groups(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    assert cpu_quota(write(tmp_path, files)) == quota


@pytest.mark.parametrize(
    ("there", "usable", "quota", "status", "words"),
    [
        (4, 4, "max", "ok", "4 of 4"),
        (64, 8, "max", "ok", "8 of 64"),  # more than four would wait for each other
        (4, 2, "max", "warning", "taskset"),
        (4, 4, "50000", "warning", "--threads 1"),
        (4, 4, "250000", "warning", "--threads 2"),
        (64, 64, "400000", "ok", "64 of 64"),
        (1, 1, "max", "ok", "1 of 1"),
    ],
)
def test_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: int, usable: int, quota: str, status: str, words: str
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: there)
    monkeypatch.setattr(machine, "usable_cores", lambda: usable)
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota} 100000\n"}
    found = only(machine.cores(patient(tmp_path, files)))
    assert found.status == status and words in found.text


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        ("throttled=0x0\n", "ok", "none since start"),
        ("throttled=0x50005\n", "problem", "under-voltage, throttled, under-voltage since start"),
        ("throttled=0x50000\n", "warning", "supply"),
        ("throttled=0xe0008\n", "warning", "fan"),
        ("VCHI initialization failed\n", "warning", "cannot tell: vcgencmd says 'VCHI initialization failed'"),
    ],
)
def test_throttling(tmp_path: Path, answer: str, status: str, words: str) -> None:
    files = {"proc/device-tree/model": PI}
    found = only(machine.throttling(patient(tmp_path, files, run=lambda command: answer)))
    assert found.status == status and words in found.text


def test_throttling_where_nobody_says(tmp_path: Path) -> None:
    elsewhere = only(machine.throttling(patient(tmp_path)))
    assert (elsewhere.status, elsewhere.found) == ("ok", "cannot tell: only a Raspberry Pi says")
    on_a_pi = only(machine.throttling(patient(tmp_path, {"proc/device-tree/model": PI}, run=no_firmware)))
    assert (on_a_pi.status, on_a_pi.found) == ("warning", "cannot tell: No such file or directory")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("61750", "ok"),
        ("79900", "ok"),
        ("80000", "warning"),
        ("85350", "warning"),
        ("hot", "ok"),
        ("9" * 400, "ok"),
        ("²", "ok"),
    ],
)
def test_temperature(tmp_path: Path, text: str, status: str) -> None:
    files = {"sys/class/thermal/thermal_zone0/temp": f"{text}\n", "sys/class/thermal/thermal_zone1/temp": "-4000\n"}
    assert only(machine.temperature(patient(tmp_path, files))).status == status
    assert "no sensor" in only(machine.temperature(patient(tmp_path / "none"))).found


@pytest.mark.parametrize(
    ("governor", "driver", "status"),
    [
        ("ondemand", "cpufreq-dt", "ok"),
        ("powersave", "cpufreq-dt", "warning"),
        ("powersave", "intel_cpufreq", "warning"),
        ("powersave", "intel_pstate", "ok"),  # sets the clock by the load under that name
        ("powersave", "amd-pstate-epp", "ok"),
    ],
)
def test_governor(tmp_path: Path, governor: str, driver: str, status: str) -> None:
    folder = "sys/devices/system/cpu/cpu0/cpufreq"
    files = {f"{folder}/scaling_governor": f"{governor}\n", f"{folder}/scaling_driver": f"{driver}\n"}
    assert only(machine.governor(patient(tmp_path, files))).status == status


@pytest.mark.parametrize(
    ("meminfo", "status", "words"),
    [
        ("MemTotal: 8245696 kB\nMemAvailable: 7000000 kB\nSwapFree: 102396 kB\n", "ok", "7,168 MB are left"),
        ("MemTotal: 441000 kB\nMemAvailable: 90000 kB\nSwapFree: 102396 kB\n", "warning", "end other programs"),
        ("MemTotal: 441000 kB\nMemAvailable: 90000 kB\nSwapFree: 0 kB\n", "problem", "takes 115 MB"),
        ("MemTotal: 441000 kB\nMemAvailable: 90000 kB\n", "problem", "add swap"),
        ("MemTotal: 441000 kB\nMemAvailable: much\n", "warning", "cannot tell"),
        ("", "warning", "cannot tell"),
    ],
)
def test_memory(tmp_path: Path, meminfo: str, status: str, words: str) -> None:
    found = only(machine.free_memory(patient(tmp_path, {"proc/meminfo": meminfo})))
    assert found.status == status and words in found.text


ELF32, ELF64 = b"\x7fELF\x01\x01", b"\x7fELF\x02\x01"


@pytest.mark.parametrize(
    ("bits", "architecture", "shell", "status", "words"),
    [
        (64, "aarch64", ELF64, "ok", "64-bit Python on aarch64"),
        (32, "aarch64", ELF32, "problem", "32-bit system on a 64-bit kernel (aarch64)"),  # the trap of Raspberry Pi OS
        (32, "aarch64", b"#!/bin", "problem", "64-bit Raspberry Pi OS"),
        (32, "x86_64", ELF64, "problem", "use the system's own python3"),
        (32, "armv7l", ELF32, "problem", "32-bit Python on armv7l: the engines have no wheels"),
    ],
)
def test_userland(tmp_path: Path, bits: int, architecture: str, shell: bytes, status: str, words: str) -> None:
    platform = replace(BOARD, bits=bits, architecture=architecture)
    nothing = libraries({})
    found = only(python.userland(patient(tmp_path, {"bin/sh": shell}, platform=platform, try_import=nothing)))
    assert found.status == status and words in found.text
    # Where somebody built an engine, it is no obstacle.
    built = only(python.userland(patient(tmp_path, platform=platform)))
    assert built.status == ("ok" if status == "ok" else "warning")


@pytest.mark.parametrize(
    ("platform", "status"),
    [
        (BOARD, "ok"),
        (SERVER, "ok"),
        (replace(BOARD, architecture="riscv64"), "warning"),
        (replace(BOARD, system="Darwin", libc=""), "warning"),
        (replace(BOARD, system="", architecture=""), "warning"),
    ],
)
def test_architecture(tmp_path: Path, platform: Platform, status: str) -> None:
    assert only(python.architecture(patient(tmp_path, platform=platform))).status == status


@pytest.mark.parametrize(
    ("platform", "status", "words"),
    [
        (BOARD, "ok", "glibc 2.36; the engines' wheels need 2.34 at most"),
        (SERVER, "ok", "need 2.28 at most"),
        # Debian 11: LiteRT's newest libraries want more than their wheels' tags say
        (replace(BOARD, libc_version=(2, 31)), "warning", "ai-edge-litert needs 2.34"),
        (replace(BOARD, libc_version=(2, 31)), "warning", "pip install 'edgecap[onnx]'"),
        (replace(BOARD, libc_version=(2, 27)), "warning", "pip install 'onnxruntime<1.29'"),
        (replace(BOARD, libc_version=(2, 26)), "problem", "install a newer system"),
        (replace(BOARD, libc="musl", libc_version=()), "problem", "musl, for which the engines have no wheels"),
        (replace(BOARD, libc="", libc_version=()), "ok", "cannot tell"),
        (replace(BOARD, architecture="riscv64"), "ok", "glibc 2.36"),
    ],
)
def test_c_library(tmp_path: Path, platform: Platform, status: str, words: str) -> None:
    found = only(python.c_library(patient(tmp_path, platform=platform, try_import=libraries({}))))
    assert found.status == status and words in found.text
    built = only(python.c_library(patient(tmp_path, platform=platform)))
    assert built.status in ("ok", "warning")


@pytest.mark.parametrize(
    ("version", "status", "words"),
    [
        ((3, 10, 12), "problem", "too old"),
        ((3, 11, 2), "ok", "Python 3.11.2"),
        ((3, 13, 9), "ok", "Python 3.13.9"),
        ((3, 14, 0), "warning", "edgecap is tested with 3.11 to 3.13"),
        ((3, 15, 0), "problem", "no engine has wheels"),
    ],
)
def test_python(tmp_path: Path, version: tuple[int, ...], status: str, words: str) -> None:
    platform = replace(BOARD, python=version)
    found = only(python.python(patient(tmp_path, platform=platform, try_import=libraries({}))))
    assert found.status == status and words in found.text


@pytest.mark.parametrize("version", ["1.26.4", "1.20.0", "", "none"])
def test_numpy_and_pillow(tmp_path: Path, version: str) -> None:
    trials = {**SOUND, "numpy": version}
    found = only(python.numpy(patient(tmp_path, try_import=libraries(trials))))
    assert found.status == ("warning" if version == "1.20.0" else "ok")
    broken = only(python.numpy(patient(tmp_path, try_import=libraries(SOUND, {"numpy": version}))))
    assert broken.status == "problem" and "does not import: ImportError: no such symbol" in broken.found
    absent = only(python.pillow(patient(tmp_path, try_import=libraries({}))))
    assert (absent.check, absent.status, absent.advice) == ("pillow", "problem", "pip install pillow")


def test_the_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {entry.partition(",")[0] for entry in (*project["dependencies"], *extras["onnx"], *extras["tflite"])}
    known = {f"{package}>={version}" for package, version in wheels.OLDEST.items()}
    tried_only = {entry for entry in known if entry.startswith("tflite-runtime")}
    assert {entry for entry in wanted if not entry.startswith("click")} == known - tried_only
    assert project["requires-python"] == ">=3.11,<3.14"
    assert (python.FIRST_PYTHON, python.LAST_PYTHON) == ((3, 11), (3, 13))


def test_wheels_that_suit() -> None:
    assert [wheel.requirement for wheel in wheels.suitable(BOARD)] == [
        "onnxruntime",
        "ai-edge-litert",
        "tflite-runtime",
    ]
    newest = replace(BOARD, python=(3, 13, 0), libc_version=(2, 31))
    assert [wheel.requirement for wheel in wheels.suitable(newest)] == ["onnxruntime", "ai-edge-litert==2.1.0"]
    for nowhere in ({"libc": "musl"}, {"bits": 32}, {"architecture": "armv7l"}, {"python": (3, 8, 0)}):
        assert wheels.pip_line(replace(BOARD, **nowhere)) is None
    assert wheels.pip_line(replace(BOARD, system="Darwin", libc="")) == "pip install 'edgecap[onnx]'"


def test_this_platform() -> None:
    here = this_platform()
    assert here.python >= (3, 11) and here.bits in (32, 64) and here.architecture
    assert here.libc != "glibc" or here.libc_version >= (2, 17)


PROBED = (
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/device-tree/model",
    "proc/self/cgroup",
    "sys/fs/cgroup/cpu.max",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver",
    "sys/class/thermal/thermal_zone0/temp",
    "bin/sh",
)
# Lines that are nearly right, so that the parsers get somewhere, and anything else.
NEARLY = st.builds(
    "{}{}{}".format,
    st.sampled_from(
        ["Features\t: ", "flags : ", "MemAvailable:", "SwapFree: ", "0::", "4:cpu,cpuacct:", "max ", "", "-"]
    ),
    st.one_of(st.text(max_size=20), st.integers().map(str), st.just("²"), st.just("9" * 5000), st.just("/\0/..//a")),
    st.sampled_from(["", " kB", " 100000", " 0", "\n", "\0"]),
)
CONTENT = st.one_of(
    st.lists(NEARLY, max_size=4).map("\n".join).map(lambda t: t.encode("utf-8", "replace")), st.binary()
)
BITS = st.sampled_from([32, 64])
PLATFORMS = st.builds(
    Platform,
    system=st.sampled_from(["Linux", "Darwin", ""]),
    architecture=st.sampled_from(["x86_64", "aarch64", "armv7l", ""]),
    bits=BITS,
    python=st.tuples(st.integers(2, 4), st.integers(0, 20), st.integers(0, 9)),
    libc=st.sampled_from(["glibc", "musl", ""]),
    libc_version=st.tuples(st.integers(2, 3), st.integers(0, 60)),
)


@settings(max_examples=150, deadline=None)
@given(
    files=st.dictionaries(st.sampled_from(PROBED), CONTENT, max_size=len(PROBED)),
    answer=st.one_of(st.text(max_size=30), st.integers().map("throttled={:#x}".format)),
    platform=PLATFORMS,
    engine=st.text(max_size=8),
)
def test_whatever_a_machine_says_is_told(files: dict[str, bytes], answer: str, platform: Platform, engine: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trials = libraries({**SOUND, "onnxruntime": engine})
        run: Callable[[str], str] = lambda command: answer  # noqa: E731
        sick = patient(Path(folder), files, run=run, platform=platform, try_import=trials)
        found = [finding for name, check in CHECKS.items() if name != "bundle" for finding in check(sick)]
    statuses(found)
    assert len({finding.check for finding in found}) >= len(CHECKS) - 1
    json.dumps(document(found))


def test_nothing_to_read_at_all(tmp_path: Path) -> None:
    empty = Patient(root=tmp_path, run=no_firmware, platform=this_platform(), try_import=libraries(SOUND))
    found = [finding for name, check in CHECKS.items() if name != "bundle" for finding in check(empty)]
    assert {finding.check for finding in found if finding.found.startswith("cannot tell")} >= {
        "memory", "throttling", "temperature", "governor",
    }  # fmt: skip
    statuses(found)
