"""A short version of the campaign ``tests/campaigns/kills.py``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from conftest import ENVIRONMENT, ROOT

ROUNDS = 4


def test_what_killed_exports_and_trainings_leave_is_whole(checkpoint: Path, bundle: Path) -> None:
    """In a process of its own, as forks of one with other threads may wait for ever."""
    command = [sys.executable, "-m", "tests.campaigns.kills", "--rounds", str(ROUNDS), "--seed", "0"]
    made = ["--checkpoint", str(checkpoint), "--bundle", str(bundle)]
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    run = subprocess.run([*command, *made], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for what, line in zip(("exports", "trainings"), run.stdout.splitlines(), strict=True):
        told = re.fullmatch(rf"{ROUNDS} {what} killed, seed 0: (.*); all whole, in \d+ s", line)
        assert told and sum(int(part.split()[0]) for part in told[1].split(", ")) == ROUNDS
