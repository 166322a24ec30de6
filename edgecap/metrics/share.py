"""A share that keeps what it was counted from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """``count`` of ``of``."""

    count: int
    of: int

    def to_json(self) -> dict[str, float]:
        """Both counts and the share, to four decimals; a share of nothing is 0."""
        return {"count": self.count, "of": self.of, "share": round(self.count / self.of, 4) if self.of else 0.0}

    def __str__(self) -> str:
        return f"{self.count:,} of {self.of:,} ({self.count / max(1, self.of):.1%})"
