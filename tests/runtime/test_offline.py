"""The runtime speaks to nobody: no network is needed, no socket is opened, and nothing is left in the user's folders.

ONNX Runtime from 1.29 on would do both, for its telemetry; that is put to the test where such a release is installed,
as in ``tests/engines/run newest``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ENVIRONMENT
from golden_bundle import write_golden

Run = Callable[..., subprocess.CompletedProcess[str]]
SOCKET = re.compile(r"\bsocket\((AF_\w+)")
# ONNX Runtime reports nothing where it believes to be tested, which is no use here.
TESTED = ("CI", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY")


def works(*command: str) -> bool:
    """Whether a command is there, and is allowed."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run([*command, "true"], capture_output=True).returncode == 0


NO_NETWORK = next((c for c in (("unshare", "-n"), ("unshare", "-r", "-n")) if works(*c)), ())
needs_strace = pytest.mark.skipif(not works("strace", "-f"), reason="strace is not installed, or may not trace")


@pytest.fixture(scope="module")
def recorded(two_runtimes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for both engines, with a golden record of both."""
    bundle = tmp_path_factory.mktemp("recorded") / "bundle"
    shutil.copytree(two_runtimes, bundle)
    write_golden(bundle)
    return bundle


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs Python behind a command such as ``unshare -n``, as a user whose home is the empty folder ``home``."""
    (tmp_path / "home").mkdir()
    kept = {name: value for name, value in ENVIRONMENT.items() if name not in TESTED and not name.startswith("XDG_")}
    environment = {**kept, "HOME": str(tmp_path / "home"), "PYTHONDONTWRITEBYTECODE": "1"}

    def call(before: tuple[object, ...], *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        command = list(map(str, (*before, sys.executable, *arguments)))
        return subprocess.run(command, capture_output=True, text=True, env={**environment, **more})

    return call


def commands(bundle: Path) -> list[tuple[object, ...]]:
    """``caption`` and ``verify`` in both engines."""
    photo = bundle / "golden" / "red.png"
    captions = [("caption", photo, "--bundle", bundle, "--engine", engine) for engine in ("onnx", "tflite")]
    return [*captions, ("verify", bundle)]


def assert_worked(run: subprocess.CompletedProcess[str], home: Path) -> None:
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "A red photo.\n" or (
        run.stdout.count("\n") >= 6 and all(line.startswith("ok ") for line in run.stdout.splitlines())
    )
    assert list(home.iterdir()) == []


@pytest.mark.skipif(not NO_NETWORK, reason="a process without a network takes unshare, and the right to use it")
def test_captions_without_a_network(recorded: Path, run: Run, tmp_path: Path) -> None:
    """Without any, not even the loopback interface."""
    script = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    assert "Network is unreachable" in run(NO_NETWORK, "-c", script).stderr
    for arguments in commands(recorded):
        assert_worked(run(NO_NETWORK, "-m", "edgecap", *arguments), tmp_path / "home")


@needs_strace
def test_no_socket_is_opened(recorded: Path, run: Run, tmp_path: Path) -> None:
    log = tmp_path / "trace"
    trace = ("strace", "-f", "-qq", "-e", "trace=network", "-o", log)
    run(trace, "-c", "import socket; socket.socket().close()")
    assert SOCKET.findall(log.read_text()) == ["AF_INET"]  # what is looked for is seen
    for arguments in commands(recorded):
        assert_worked(run(trace, "-m", "edgecap", *arguments), tmp_path / "home")
        assert set(SOCKET.findall(log.read_text())) <= {"AF_UNIX"}, log.read_text()


def test_python_opens_no_socket(recorded: Path, run: Run, tmp_path: Path) -> None:
    """Where neither of the above is to be had: Python's own are forbidden, and what looks up names."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nsys.addaudithook(lambda event, _: event.startswith('socket.') and os._exit(99))\n"
    )
    path = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"}
    for script in ("socket.socket()", "socket.getaddrinfo('localhost', 80)"):
        assert run((), "-c", f"import socket; {script}", **path).returncode == 99
    for arguments in commands(recorded):
        assert_worked(run((), "-m", "edgecap", *arguments, **path), tmp_path / "home")


def test_onnx_runtime_is_told_to_report_nothing(run: Run) -> None:
    """Before it is imported; its reports would come after some seconds. What the user says of it stands."""
    script = "import os; from edgecap.runtime import load; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run((), "-c", script).stdout == "1\n"
    assert run((), "-c", script, ORT_DISABLE_TELEMETRY="0").stdout == "0\n"
