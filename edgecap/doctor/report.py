"""What is found: a line a check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import edgecap

Status = Literal["ok", "warning", "problem"]
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Finding:
    """One check's result. ``advice`` says what to do; what is ok has none."""

    check: str
    status: Status
    found: str
    advice: str | None = None

    @property
    def text(self) -> str:
        """The finding in a line: ``memory: 90 MB are left -> close other programs``."""
        return f"{self.check}: {self.found}" + (f" -> {self.advice}" if self.advice else "")


def ok(check: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(check, "ok", found)


def warning(check: str, found: str, advice: str) -> Finding:
    """Captions are made all the same: slower, or not with everything."""
    return Finding(check, "warning", found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    """Captions are not made, or not as they should be."""
    return Finding(check, "problem", found, advice)


def document(findings: Sequence[Finding]) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "schema_version": SCHEMA_VERSION,
        "edgecap": edgecap.__version__,
        "ok": all(finding.status != "problem" for finding in findings),
        "checks": [asdict(finding) for finding in findings],
    }
