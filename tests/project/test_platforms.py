"""Where there is no POSIX, the runtime and ``edgecap caption`` do all the same: screen readers live on Windows.

Neither Windows nor macOS is at hand. What only POSIX has is taken away here, and the types are checked for both.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from places import ROOT
from tiny_bundle import write_tiny_bundle

# Modules and functions that the Python of Windows lacks; os.uname stays, which numpy asks wherever it finds Linux.
WITHOUT_POSIX = """
import os, signal, sys
for module in ("fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"):
    sys.modules[module] = None
gone = "chown confstr fchmod fork forkpty getgid geteuid getloadavg getpgid getuid killpg mkfifo mknod nice openpty"
gone += " posix_fallocate pread pwrite register_at_fork sched_getaffinity setsid statvfs sysconf wait3 wait4"
for name in (*gone.split(), "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "alarm", "setitimer"):
    if hasattr(signal, name):
        delattr(signal, name)
"""


def without_posix(code: str, *arguments: object) -> list[str]:
    command = [sys.executable, "-c", WITHOUT_POSIX + code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGECAP_GOLDEN": os.devnull}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout.splitlines()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("platforms") / "bundle")


def test_python_captions_without_posix(bundle: Path, photo: Callable[..., Path]) -> None:
    code = "from edgecap.runtime import load; print(load(sys.argv[1]).caption(sys.argv[2]).text)"
    assert without_posix(code, bundle, photo("red.png", "red")) == ["A red photo."]


def test_the_command_captions_and_inspects_without_posix(bundle: Path, photo: Callable[..., Path]) -> None:
    code = "from edgecap.cli import main; main(sys.argv[1:], prog_name='edgecap')"
    red = photo("red.png", "red")
    assert without_posix(code, "caption", red, "--bundle", bundle) == ["A red photo."]
    assert without_posix(code, "caption", red.parent, "--bundle", bundle, "--json")[0].startswith("{")
    assert without_posix(code, "inspect", bundle)[0].startswith("tiny-test")


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_types_hold_on_other_platforms(platform: str) -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone: the types were checked there")
    command = [sys.executable, "-m", "mypy", "--platform", platform, "--cache-dir", os.devnull]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
