"""Makes the second architecture known to every Python that has this folder on its path: a row in each table."""

from __future__ import annotations

from edgecap.architectures.registry import ROWS, Row
from edgecap.runtime.bundle.tasks import ARCHITECTURES

ROWS["second"] = Row("second_dims", "second_architecture")
ARCHITECTURES["second"] = "0.1.0"
