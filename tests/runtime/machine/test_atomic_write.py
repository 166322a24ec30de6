"""A file that is written anew is whole, or as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgecap.runtime.machine.atomic_write import write_atomically

# Writes half of what it should, says so, and waits to be killed.
KILLED_HALFWAY = """
import sys, time
from pathlib import Path
from edgecap.runtime.machine.atomic_write import write_atomically
with write_atomically(Path(sys.argv[1])) as partial:
    partial.write_text("ne")
    print("half", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("before", [None, "old"])
def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "file.json"
    if before is not None:
        path.write_text(before)
    with pytest.raises(KeyboardInterrupt), write_atomically(path) as partial:
        partial.write_text("ne")
        raise KeyboardInterrupt
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == ({"file.json": before} if before else {})
    with write_atomically(path) as partial:
        partial.write_text("new")
        assert not path.exists() or path.read_text() == before
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"file.json": "new"}


def test_a_process_that_is_killed_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text("old")
    with subprocess.Popen([sys.executable, "-c", KILLED_HALFWAY, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_text() == "old"
    with write_atomically(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"


def test_links_and_pipes_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with write_atomically(tmp_path / "link") as partial:
        partial.write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with write_atomically(tmp_path / "pipe") as partial:
        partial.write_text("new")
    assert os.read(reader, 10) == b"new" and (tmp_path / "pipe").is_fifo()
    os.close(reader)
