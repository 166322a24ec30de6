"""The log of a run: one CSV row a step or validation, and its curve as a picture."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from edgecap.runtime.machine.atomic_write import write_atomically


@dataclass(frozen=True)
class LogRow:
    """One training step, or (with the val columns filled) the validation after an epoch."""

    stage: str
    epoch: int
    step: int  # of the whole run
    loss: float | None = None  # cross-entropy per word, nats; or distance from a teacher; or minus CIDEr-D (0 to 10)
    learning_rate: float | None = None
    grad_norm: float | None = None  # before clipping
    photos_per_second: float | None = None
    val_cider_d: float | None = None  # x 100; of several datasets the mean, as the next
    val_bleu_4: float | None = None
    val_loss: float | None = None  # cross-entropy per word of val's captions, nats; or distance from a teacher
    val_datasets: str | None = None  # of several: "coco 61.20 flickr8k 48.91", CIDEr-D x 100 of each


class TrainingLog:
    """Appends to ``log.csv``; rows past ``step`` of an earlier, killed part of the run are dropped when it resumes.

    ``validated`` says whether the validation after ``step``, if there is one, is behind the run or will come again.
    """

    def __init__(self, path: Path, *, step: int, validated: bool) -> None:
        self.path = path
        last = (step, validated)
        rows = self.rows() if path.exists() else []
        kept = [row for row in rows if (int(row["step"]), bool(row["val_cider_d"] or row["val_loss"])) <= last]
        with write_atomically(path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(LogRow)])
            writer.writeheader()
            writer.writerows(kept)

    def append(self, row: LogRow) -> None:
        """Add a row; numbers are kept to six digits."""
        values = [f"{value:.6g}" if isinstance(value, float) else value for value in asdict(row).values()]
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(values)

    def rows(self) -> list[dict[str, str]]:
        """Every row as it stands in the file."""
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def curve(self, column: str) -> tuple[list[int], list[float]]:
        """Steps and values of the rows that fill ``column``."""
        filled = [row for row in self.rows() if row[column]]
        return [int(row["step"]) for row in filled], [float(row[column]) for row in filled]


def plot_curve(log: TrainingLog, path: Path) -> None:
    """Draw loss and validation CIDEr-D against the step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    left = figure.subplots()
    left.plot(*log.curve("loss"), linewidth=0.8, color="tab:blue")
    left.set(xlabel="step", ylabel="training loss: nats per word, distance, or minus reward")
    right = left.twinx()
    right.plot(*log.curve("val_cider_d"), marker="o", color="tab:orange")
    right.set(ylabel="CIDEr-D on val, beam search, x 100")
    with write_atomically(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
