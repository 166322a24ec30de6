"""A report as a bar chart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from edgecap.runtime.machine.atomic_write import write_atomically
from edgecap.runtime.wording import counted

PARTS = {"preprocess": "file to tensor", "encoder": "encoder", "steps": "decoder steps", "search": "search"}


def plot(document: Mapping[str, Any], path: Path) -> None:
    """Draw where the median caption's time goes, a bar for each run, as PNG."""
    runs = document["runs"]
    figure = Figure(figsize=(9, 1.6 + 0.5 * len(runs)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    labels = [
        f"{run['library']} {run['precision']}\n{counted(run['threads'], 'thread')}, beam {run['beam']}" for run in runs
    ]
    left = [0.0] * len(runs)
    for part, name in PARTS.items():
        widths = [_milliseconds(run["latency"], part) for run in runs]
        axes.barh(labels, widths, left=left, label=name)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for label, total in zip(labels, left, strict=True):
        axes.annotate(f" {total:.1f}", (total, label), va="center")
    axes.set(xlabel="milliseconds a caption, sum of medians", xlim=(0, 1.12 * max(left)))
    axes.invert_yaxis()
    figure.suptitle(f"{document['bundle']['label']} on {document['machine']['cpu']}", fontsize="medium")
    figure.legend(loc="outside lower center", ncols=len(PARTS), frameon=False)
    with write_atomically(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def _milliseconds(latency: Mapping[str, Any], part: str) -> float:
    if part == "steps":
        return float(latency["step"]["p50"] * latency["steps_per_caption"])
    return float(latency[part]["p50"])
