"""``edgecap doctor`` as it is called, on this machine and where something is broken; and what it says of libraries."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from click.testing import CliRunner
from conftest import ENVIRONMENT, ROOT, edgecap
from edited_bundle import remove_file
from golden_bundle import edit_golden, write_golden
from patients import (
    BOARD,
    ENGINES,
    PI4_FEATURES,
    PI5_FEATURES,
    SERVER,
    SOUND,
    arm,
    libraries,
    patient,
    statuses,
    without,
    x86,
)

from edgecap.cli import main
from edgecap.doctor import bundle, examination
from edgecap.doctor.examination import CHECKS, examine
from edgecap.doctor.known_bad import KNOWN_BAD
from edgecap.doctor.patient import Patient
from edgecap.doctor.report import Finding, warning
from edgecap.doctor.trial import Trial, try_import
from edgecap.errors import EngineError
from edgecap.runtime.bundle.bundle import Bundle
from edgecap.runtime.bundle.documents import GOLDEN
from edgecap.runtime.machine import tuning
from edgecap.runtime.machine.other_process import Ended, run_python
from edgecap.runtime.machine.tuning import Measurement, remember

ONCE = ("machine", "cpu", "training", "cores", "memory", "throttling", "temperature", "governor", "userland",
        "architecture", "C library", "python", "numpy", "pillow", "engines", "bundle", "tuning",
        "golden photo")  # fmt: skip


@pytest.fixture
def recorded(own_bundle: Path) -> Path:
    """The tiny bundle with a golden record."""
    write_golden(own_bundle)
    return own_bundle


@pytest.fixture
def sound(tmp_path: Path) -> Callable[..., Patient]:
    """Patients with nothing wrong, but for what is given."""
    return lambda **others: patient(tmp_path / "root", **others)


def instead_of(folder: Path, library: str, code: str) -> str:
    """A PYTHONPATH on which ``library`` is a module of this code."""
    (folder / library).mkdir(parents=True)
    (folder / library / "__init__.py").write_text(code)
    return os.pathsep.join([str(folder), str(ROOT)])


def lines_of(out: list[str], check: str) -> list[str]:
    return [line for line in out if line[9:].startswith(f"{check}: ")]


def test_this_machine(tmp_path: Path) -> None:
    """The default bundle, from elsewhere, in a home that cannot be written to."""
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    environment = {**ENVIRONMENT, "HOME": str(home), "EDGECAP_TUNING": ""}
    environment.pop("XDG_CONFIG_HOME", None)
    command = [sys.executable, "-m", "edgecap", "doctor"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    out = run.stdout.splitlines()
    assert all(line[:9] in ("ok       ", "warning  ", "problem  ") for line in out)
    assert all((" -> " in line) == (not line.startswith("ok ")) for line in out)
    assert all(len(lines_of(out, check)) == 1 for check in ONCE)
    assert lines_of(out, "onnxruntime")[0] == f"ok       onnxruntime: {onnxruntime.__version__}"
    (golden,) = lines_of(out, "golden photo")
    assert golden.startswith(f"ok       golden photo: onnx int8, onnxruntime {onnxruntime.__version__}: captions equal")
    problems = [line for line in out if line.startswith("problem")]
    assert run.returncode == (1 if problems else 0) and bool(run.stderr) == bool(problems)
    assert list(home.iterdir()) == []


def test_it_imports_nothing_that_may_be_broken() -> None:
    check = (
        "import sys, edgecap.cli.doctor; print({'numpy', 'PIL', 'onnxruntime', 'ai_edge_litert'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", check], check=True, env=ENVIRONMENT, capture_output=True, text=True)
    assert run.stdout == "set()\n"


def test_wrong_usage_is_exit_2() -> None:
    code, out, err = edgecap("doctor", "--bundles", "x")
    assert (code, out) == (2, []) and "Traceback" not in "".join(err)


def test_without_an_engine_the_command_is_named_and_json_is_one_document(own_bundle: Path) -> None:
    code, out, err = without(*ENGINES)("doctor", "--bundle", own_bundle, "--json")
    (line,) = out
    report = json.loads(line)
    assert set(report) == {"schema_version", "edgecap", "ok", "checks"} and report["schema_version"] == 1
    for check in report["checks"]:
        assert set(check) == {"check", "status", "found", "advice"} and check["found"]
        assert (check["advice"] is None) == (check["status"] == "ok")
    install = "pip install 'edgecap[onnx]'"
    assert [check for check in report["checks"] if check["status"] == "problem"] == [
        {"check": "engines", "status": "problem", "found": "none is installed", "advice": install},
        {
            "check": "bundle",
            "status": "problem",
            "found": "no engine works that runs its onnx graphs",
            "advice": install,
        },
    ]
    assert (code, report["ok"]) == (1, False) and err == ["edgecap: something is wrong with: engines, bundle"]


def test_without_numpy_it_says_so(tmp_path: Path) -> None:
    path = instead_of(tmp_path, "numpy", "raise ImportError('libopenblas.so.0: cannot open\\nshared object file')")
    code, out, err = edgecap("doctor", PYTHONPATH=path)
    (line,) = lines_of(out, "numpy")
    assert line.startswith("problem  numpy: ") and "-> pip install --force-reinstall numpy" in line
    assert lines_of(out, "engines")[0].startswith("warning  engines: cannot tell of onnxruntime")
    assert lines_of(out, "bundle")[0].startswith("warning  bundle: cannot tell: it takes numpy")
    assert len(lines_of(out, "memory")) == len(lines_of(out, "tuning")) == 1
    assert code == 1 and err == ["edgecap: something is wrong with: numpy"]
    # Other commands point here.
    code, out, err = edgecap("caption", "photo.jpg", PYTHONPATH=path)
    message = "a library does not import (libopenblas.so.0: cannot open shared object file): run  edgecap doctor"
    assert (code, out, err) == (1, [], [f"edgecap: {message}"])


def test_an_engine_that_kills_python(tmp_path: Path, own_bundle: Path) -> None:
    path = instead_of(tmp_path, "onnxruntime", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    code, out, err = edgecap("doctor", "--bundle", own_bundle, PYTHONPATH=path)
    killed = f"{onnxruntime.__version__}, but does not import: killed by SIGILL (Illegal instruction) -> "
    assert killed in lines_of(out, "onnxruntime")[0]
    assert lines_of(out, "bundle")[1] == (
        "problem  bundle: no engine works that runs its onnx graphs -> repair onnxruntime, see above"
    )
    assert code == 1 and len(err) == 1


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("raise ImportError('libstdc++.so.6: version `GLIBCXX_3.4.30` not found')", "ImportError: libstdc++.so.6: "),
        ("", "AttributeError: module 'onnxruntime' has no attribute 'InferenceSession'"),  # half removed
        ("import os; os._exit(7)", "exit status 7"),
    ],
)
def test_an_engine_that_does_not_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, problem: str
) -> None:
    instead_of(tmp_path, "onnxruntime", code)
    monkeypatch.syspath_prepend(tmp_path)
    trial = try_import("onnxruntime")
    assert (trial.state, trial.version) == ("broken", onnxruntime.__version__) and trial.problem.startswith(problem)


def test_libraries_that_are_there_and_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("numpy", "PIL"):
        assert try_import(library).state == "works"
    assert try_import("onnxruntime", used=False) == Trial("onnxruntime", "unused", onnxruntime.__version__)
    if importlib.util.find_spec("tflite_runtime") is None:
        assert try_import("tflite_runtime") == Trial("tflite_runtime", "absent")
        # One that pip did not install
        instead_of(tmp_path, "tflite_runtime", "__version__ = '2.5.0'; print('a greeting')")
        (tmp_path / "tflite_runtime" / "interpreter.py").write_text("class Interpreter: pass")
        monkeypatch.syspath_prepend(tmp_path)
        assert try_import("tflite_runtime") == Trial("tflite_runtime", "works", "2.5.0")


def test_an_engine_that_dies_of_a_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sound: Callable[..., Patient], recorded: Path
) -> None:
    dies = "import os, signal\ndef SessionOptions(): os.kill(os.getpid(), signal.SIGSEGV)"
    instead_of(tmp_path, "onnxruntime", dies)
    monkeypatch.syspath_prepend(tmp_path)
    *_, golden = bundle.bundle(sound(bundle=str(recorded)))
    assert (golden.check, golden.status) == ("golden photo", "problem")
    ended = "ended the process that tried them: killed by SIGSEGV (Segmentation fault)"
    assert golden.found == f"onnx int8: graphs: {ended}"


def test_other_commands_tell_broken_from_absent(tmp_path: Path, recorded: Path) -> None:
    path = instead_of(tmp_path, "onnxruntime", "raise ImportError('no such symbol')")
    broken = "onnxruntime is installed, but does not import (no such symbol): run  edgecap doctor"
    assert edgecap("caption", "--bundle", recorded, "x.jpg", PYTHONPATH=path) == (1, [], [f"edgecap: {broken}"])
    code, out, _ = edgecap("verify", recorded, PYTHONPATH=path)
    assert code == 1 and f"FAILED   onnx int8: {broken}" in out


HARM = "made to harm"


def examined(sick: Patient, check: str) -> list[Finding]:
    found = list(CHECKS[check](sick))
    statuses(found)
    return found


@pytest.mark.parametrize(
    ("library", "version", "numpy", "platform", "cpuinfo", "status"),
    [
        # Built for ARMv8.2: the Raspberry Pi 4 is killed by it, the 5 is not
        ("onnxruntime", "1.21.0", "2.3", BOARD, arm(PI4_FEATURES), "problem"),
        ("onnxruntime", "1.21.0", "2.3", BOARD, arm(PI5_FEATURES), None),
        ("onnxruntime", "1.21.1", "2.3", BOARD, arm(PI4_FEATURES), None),
        ("onnxruntime", "1.20.1", "2.3", BOARD, arm(PI4_FEATURES), None),
        ("onnxruntime", "1.21.0", "2.3", BOARD, "", None),  # who knows
        # Wrong int8 products with AMX
        ("onnxruntime", "1.20.1", "2.3", SERVER, x86("avx amx_int8"), None),
        ("onnxruntime", "1.21.0", "2.3", SERVER, x86("avx amx_int8"), "warning"),
        ("onnxruntime", "1.24.4", "2.3", SERVER, x86("avx amx_int8"), "warning"),
        ("onnxruntime", "1.24.4", "2.3", SERVER, x86("avx avx512_vnni"), None),
        ("onnxruntime", "1.25.0", "2.3", SERVER, x86("avx amx_int8"), None),
        ("onnxruntime", "1.25", "2.3", SERVER, x86("avx amx_int8"), None),
        # Before numpy 2
        ("onnxruntime", "1.18.1", "2.0.0", SERVER, x86("avx"), "problem"),
        ("onnxruntime", "1.18.1", "1.26.4", SERVER, x86("avx"), None),
        ("tflite_runtime", "2.14.0", "2.0.0", BOARD, arm(PI4_FEATURES), "problem"),
        ("tflite_runtime", "2.14.0", "1.26.4", BOARD, arm(PI4_FEATURES), None),
        ("tensorflow", "2.19.0", "2.0.0", SERVER, x86("ssse3"), "problem"),
        ("tensorflow", "2.19.0", "2.0.0", SERVER, x86("avx"), None),
        ("ai_edge_litert", "2.1.0", "2.0.0", BOARD, arm(PI4_FEATURES), None),
        ("onnxruntime", "dev", "2.0.0", SERVER, x86("amx_int8"), None),
    ],
)
def test_known_faults(
    tmp_path: Path, library: str, version: str, numpy: str, platform: Any, cpuinfo: str, status: str | None
) -> None:
    there = libraries({"numpy": numpy, library: version})
    sick = patient(tmp_path, {"proc/cpuinfo": cpuinfo}, platform=platform, try_import=there)
    first, *faults, last = examined(sick, "engines")
    assert first.check == library.replace("_", "-") and last.check == "engines"
    assert [fault.status for fault in faults if HARM not in fault.found] == ([status] if status else [])
    # One that is broken is explained by it.
    dead = libraries({"numpy": numpy}, {library: version})
    sick = patient(tmp_path, {}, platform=platform, try_import=dead)
    first, *faults, last = examined(sick, "engines")
    assert [fault.status for fault in faults if HARM not in fault.found] == ([status] if status else [])
    assert (first.status, last.status, last.found) == ("problem", "problem", "none of those that are installed works")


@pytest.mark.parametrize(
    ("library", "check", "unsafe", "safe"),
    [
        (
            "onnxruntime",
            "engines",
            ["1.23.0", "1.23.2", "1.25.0", "1.27.1", "1.28.2", "1.29.0", "1.30.0"],
            ["1.28.3", "1.30.1", "1.31.0", "1.32.0"],
        ),
        ("PIL", "pillow", ["11.0.0", "12.0.0", "12.3.1"], ["13.0.0", "13.1"]),
    ],
)
def test_releases_that_can_be_harmed_are_known(
    tmp_path: Path, library: str, check: str, unsafe: list[str], safe: list[str]
) -> None:
    for version in unsafe + safe:
        found = examined(patient(tmp_path, try_import=libraries({**SOUND, library: version})), check)
        harm = [finding for finding in found if HARM in finding.found]
        assert [finding.status for finding in harm] == (["warning"] if version in unsafe else []), version
        assert all(f"pip install --upgrade {finding.check}" in finding.advice for finding in harm)


def test_known_faults_say_why() -> None:
    assert all(fault.reason and fault.advice.startswith("pip install ") for fault in KNOWN_BAD)


def test_engines_that_are_old_or_not_used(tmp_path: Path) -> None:
    there = {**SOUND, "onnxruntime": "1.22.1", "ai_edge_litert": "2.1.0", "tensorflow": "2.19.0"}
    found = examined(patient(tmp_path, try_import=libraries(there)), "engines")
    assert [(finding.check, finding.status) for finding in found] == [
        ("onnxruntime", "warning"), ("onnxruntime", "warning"), ("ai-edge-litert", "ok"), ("tensorflow", "ok"),
        ("engines", "ok"),
    ]  # fmt: skip
    assert found[0].found == "1.22.1; edgecap is made for 1.23 and newer" and "not used" in found[3].found
    assert found[-1].found == "onnx graphs run in onnxruntime, tflite graphs run in ai-edge-litert"
    # A LiteRT that is broken leaves its place to the next, and is no problem then.
    found = examined(patient(tmp_path, try_import=libraries(there, {"ai_edge_litert": "2.3.0"})), "engines")
    assert [(finding.check, finding.status) for finding in found][2:] == [
        ("ai-edge-litert", "warning"), ("tensorflow", "ok"), ("engines", "ok"),
    ]  # fmt: skip
    assert found[-1].found == "onnx graphs run in onnxruntime, tflite graphs run in tensorflow"


def test_where_no_wheel_fits_none_is_recommended(tmp_path: Path) -> None:
    musl = replace(BOARD, libc="musl", libc_version=())
    found = examined(patient(tmp_path, platform=musl, try_import=libraries({"numpy": "2.3.0"})), "engines")
    assert [(finding.status, finding.advice) for finding in found] == [
        ("problem", "no wheel of one is for this machine, see above: build ONNX Runtime or LiteRT from source")
    ]


def test_a_torn_bundle_names_the_file(sound: Callable[..., Patient], recorded: Path) -> None:
    torn = recorded / "decoder_step.int8.onnx"
    torn.write_bytes(torn.read_bytes()[:-1])
    first, second = bundle.bundle(sound(bundle=str(recorded)))
    assert first.status == "problem" and first.found.startswith(f"{torn}: does not match its sha256")
    assert (second.check, second.status) == ("tuning", "ok")


def test_bundles_that_are_not_there(sound: Callable[..., Patient], tmp_path: Path) -> None:
    for name in ("nowhere", str(tmp_path), ""):
        first, second = bundle.bundle(sound(bundle=name))
        assert (first.status, first.advice) == ("problem", "name another, or a bundle's directory")
        assert (second.check, second.status) == ("tuning", "ok")


def test_another_result_than_recorded_is_a_problem(sound: Callable[..., Patient], recorded: Path) -> None:
    edit_golden(recorded, lambda d: d["graphs"]["onnx-int8"]["captions"]["beam"].update(caption="A blue photo."))
    *_, golden = bundle.bundle(sound(bundle=str(recorded)))
    assert golden.status == "problem" and "onnx int8: graphs: the beam caption is 'A red photo.'" in golden.found


def test_a_malformed_or_absent_record(sound: Callable[..., Patient], recorded: Path) -> None:
    edit_golden(recorded, lambda d: d.pop("photo"))
    *_, golden = bundle.bundle(sound(bundle=str(recorded)))
    assert golden.status == "problem" and GOLDEN in golden.found
    remove_file(recorded, GOLDEN)
    *_, golden = bundle.bundle(sound(bundle=str(recorded)))
    assert (golden.status, golden.found) == ("warning", "cannot tell: the bundle carries none")


def test_what_was_measured_here(
    sound: Callable[..., Patient], own_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tuning.json"
    monkeypatch.setenv("EDGECAP_TUNING", str(file))
    healthy = sound(bundle=str(own_bundle))

    def told() -> Finding:
        (finding,) = (finding for finding in bundle.bundle(healthy) if finding.check == "tuning")
        statuses([finding])
        return finding

    assert told().found.startswith("nothing was measured")
    identity = Bundle.open(own_bundle).manifest.bundle_id
    remember(identity, [Measurement("onnx", "int8", 2, 5.0)])
    assert told() == Finding("tuning", "ok", f"settings of this bundle measured on this machine: 1 ({file})")
    monkeypatch.setattr(tuning, "_versions", lambda: {"onnxruntime": "9.9"})
    assert "other versions of the engines" in told().found
    document = json.loads(file.read_text())
    document[identity]["conditions"]["machine"] = "other"
    file.write_text(json.dumps(document))
    assert (told().status, "another machine" in told().found) == ("warning", True)
    for content in (b"", b"{", b"[" * 100_000, b"[]", b"\xff", json.dumps({identity: 3}).encode()):
        file.write_bytes(content)
        assert told().status == "warning" and told().found.startswith(f"{file} is ")
    file.unlink()
    file.mkdir()
    assert told().found.startswith(f"{file} cannot be read: ")
    monkeypatch.delenv("EDGECAP_TUNING")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", staticmethod(homeless))
    assert told().status == "ok"


def homeless() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_check_that_breaks_off_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def breaks(sick: Patient) -> Iterator[Finding]:
        yield warning("one", "something", "nothing")
        raise KeyError("odd")

    checks = {"one": breaks, "memory": CHECKS["memory"]}
    monkeypatch.setattr(examination, "CHECKS", checks)
    found = list(examine(patient(tmp_path)))
    assert [finding.check for finding in found] == ["one", "one", "memory"]
    assert found[1].found == "cannot tell: KeyError: 'odd'"
    # A warning is no failure.
    monkeypatch.setattr("edgecap.cli.doctor.examine", lambda sick: found)
    assert CliRunner().invoke(main, ["doctor"]).exit_code == 0


def test_how_another_python_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ended(1, "", "Traceback\nValueError: x\n\n").how == "ValueError: x"
    assert (Ended(3, "", "").how, Ended(-200, "", "").how) == ("exit status 3", "killed by signal 200")
    monkeypatch.setattr("edgecap.runtime.machine.other_process._PATIENCE", 0.01)
    with pytest.raises(EngineError, match="no answer within 0 seconds"):
        run_python("-c", "import time; time.sleep(60)")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(EngineError, match=r"another Python does not start: .*/nowhere/python"):
        run_python("-c", "")


def test_a_python_that_does_not_start_accuses_nobody(
    tmp_path: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    unknown = try_import("numpy")
    assert unknown.state == "unknown"
    found = examined(patient(tmp_path, try_import=lambda library, used: replace(unknown, library=library)), "numpy")
    assert [finding.status for finding in found] == ["warning"]

    def tried(library: str, used: bool) -> Trial:
        return (
            replace(unknown, library=library, version="")
            if library == "onnxruntime"
            else libraries(SOUND)(library, used)
        )

    sick = patient(tmp_path, try_import=tried, bundle=str(recorded))
    assert statuses(examined(sick, "engines")) == [("onnxruntime", "warning"), ("engines", "warning")]
    assert examined(sick, "bundle")[-1].found == "cannot tell whether an engine works that runs its onnx graphs"


def test_a_trial_is_by_the_name_of_its_package() -> None:
    assert Trial("PIL", "works").package == "pillow" and Trial("ai_edge_litert", "works").package == "ai-edge-litert"
