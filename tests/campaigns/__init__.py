"""Campaigns: tests that run for minutes or hours, started by hand; the suite has a short version of each.

``python -m tests.campaigns.fuzz --help``, and likewise ``graphs`` and ``kills``, from the project's root.
"""

import sys
from pathlib import Path

_TESTS = str(Path(__file__).resolve().parents[1])
if _TESTS not in sys.path:  # where pytest has it already
    sys.path.insert(0, _TESTS)
